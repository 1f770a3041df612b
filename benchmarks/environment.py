"""Is a number that another library reports for our task the number that our evaluation reports?

    pip install -e . -e environments/countdown_nb verifiers uv
    python benchmarks/environment.py                        # the shipped model, 12 held-out puzzles in each format

The shipped model is served as any model is, over HTTP by the protocol for chat completions, greedily. verifiers draws the
puzzles from environments/countdown_nb, asks them, and lets the environment grade what comes back. Accuracy and mean reward
must be those of grpo_nb's own evaluation. With verifiers 0.4 its command `vf-eval` asks; its harness is a script whose
packages uv installs. With verifiers 0.1 the environment's own `evaluate` asks. Writes `results/environment-VERSION.json`."""
import argparse, asyncio, json, os, shutil, subprocess, sys, tempfile, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from common import ROOT
from grpo_nb.environment import CountdownEntries
from grpo_nb.models import load_model, load_tokenizer
from grpo_nb.prompts import PROMPT_FORMATS
from grpo_nb.rollouts import generate
from grpo_nb.scoring import evaluate

TOKENS = 64


def serve(model, tok):
    "A server of chat completions on a free port."
    one = threading.Lock()
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        def log_message(self, *_): "Quiet."
        def _send(self, body, kind='application/json'):
            self.send_response(200)
            self.send_header('Content-Type', kind)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def do_GET(self): self._send(json.dumps(dict(object='list', data=[dict(id='small', object='model')])).encode())
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            texts = [m['content'] if isinstance(m['content'], str) else ''.join(p['text'] for p in m['content']) for m in asked['messages']]
            prompt = tok.apply_chat_template([dict(m, content=t) for m,t in zip(asked['messages'], texts)], tokenize=False, add_generation_prompt=True)
            with one: out = generate(model, tok, [prompt], 1, 0., TOKENS)
            used = dict(prompt_tokens=len(tok(prompt).input_ids), completion_tokens=int(out.lengths[0]))
            about = dict(id='1', created=0, model='small', usage=used | dict(total_tokens=sum(used.values())))
            end = 'length' if out.truncated[0] else 'stop'
            said = dict(role='assistant', content=out.texts[0])
            if not asked.get('stream'): return self._send(json.dumps(about | dict(object='chat.completion', choices=[dict(index=0, message=said, finish_reason=end)])).encode())
            part = json.dumps(about | dict(object='chat.completion.chunk', choices=[dict(index=0, delta=said, finish_reason=end)]))
            self._send(f'data: {part}\n\ndata: [DONE]\n\n'.encode(), 'text/event-stream')
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server,f'http://127.0.0.1:{server.server_port}/v1'


def by_command(url, fmt, n, folder):
    "Rewards and accuracies by verifiers 0.4's command."
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    given = {'taskset.prompt-format':fmt, 'taskset.split':'heldout', 'taskset.n':n, 'taskset.seed':142, 'taskset.distinct':True,
             'agent.harness.id':'null', 'agent.runtime.type':'subprocess', 'agent.max-turns':1}
    options = [str(a) for k,v in given.items() for a in (f'--env.{k}', v)]
    command = [shutil.which('vf-eval', path=path), 'countdown-nb', '-m', 'small', '--client.base-url', url, '--client.api-key-var', 'NO_KEY', '--push', 'false', *options]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, 'PATH':path, 'NO_KEY':'none'})
    found = [json.loads(l) for f in Path(folder).rglob('traces.jsonl') for l in f.read_text().splitlines()]
    traces = [t for f in found for t in f.get('traces', [f])]
    if done.returncode or len(traces) != n: raise SystemExit(done.stdout[-4000:])
    key = lambda t: (t['task']['data']['nums'], t['task']['data']['target'])
    return [(*key(t), t['rewards']['countdown']['score'], t['metrics']['accuracy']) for t in traces]


def by_evaluate(url, fmt, n):
    "Rewards and accuracies by verifiers 0.1's own loop."
    import countdown_nb, verifiers as vf
    env = countdown_nb.load_environment(prompt_format=fmt, n=1, eval_n=n, eval_seed=142)
    os.environ['NO_KEY'] = 'none'
    client = vf.ClientConfig(api_base_url=url, api_key_var='NO_KEY')
    out = asyncio.run(env.evaluate(client, 'small', num_examples=n, rollouts_per_example=1, sampling_args=dict(temperature=0., max_tokens=TOKENS)))
    read = lambda o: json.loads(o['info']) if isinstance(o['info'], str) else o['info']
    return [(read(o)['nums'], read(o)['target'], o['reward'], o['metrics']['accuracy']) for o in out['outputs']]


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--problems', type=int, default=12, help='held-out puzzles in each format')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the record')
    a = p.parse_args()
    if a.problems < 1: p.error(f'--problems should be at least 1, got {a.problems}')
    try: v = version('verifiers')
    except PackageNotFoundError: print('verifiers is not installed, so nothing is compared: pip install verifiers uv'); return
    tok,model = load_tokenizer('small'),load_model('small', device='cpu')
    server,url = serve(model, tok)
    rows = {}
    for fmt in PROMPT_FORMATS:
        puzzles = CountdownEntries(split='heldout', distinct=True, size=a.problems, seed=142, prompt_format=fmt)
        ours = evaluate(model, tok, [puzzles.problem(i) for i in range(a.problems)], fmt, max_new_tokens=TOKENS)
        with tempfile.TemporaryDirectory() as tmp: theirs = by_evaluate(url, fmt, a.problems) if v.startswith('0.1.') else by_command(url, fmt, a.problems, tmp)
        here = sorted((r.nums, r.target, r.reward, float(r.correct)) for r in ours.itertuples())
        if here != sorted(map(tuple, theirs)): raise SystemExit(f'{fmt}: verifiers {v} and grpo_nb disagree:\n{here}\n{sorted(theirs)}')
        figures = lambda t: dict(accuracy=sum(r[3] for r in t)/len(t), reward=sum(r[2] for r in t)/len(t))
        rows[fmt] = dict(ours=figures(here), theirs=figures(sorted(map(tuple, theirs))))
        print(f"{fmt}: of {a.problems} puzzles " + ', '.join(f"accuracy {f['accuracy']:.3f} and mean reward {f['reward']:.3f} by {who}" for who,f in (('grpo_nb', rows[fmt]['ours']), ('verifiers', rows[fmt]['theirs']))))
    server.shutdown()
    a.out.mkdir(parents=True, exist_ok=True)
    record = dict(verifiers=v, problems=a.problems, model='small', max_new_tokens=TOKENS, formats=rows)
    (a.out/f'environment-{v}.json').write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__': main()

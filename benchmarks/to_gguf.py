"""Does a policy folder go through llama.cpp's own converter, and what comes out?

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-*.tar.gz   # holds llama.cpp
    pip install gguf sentencepiece
    python benchmarks/to_gguf.py --llama llama_cpp_python-0.3.36/vendor/llama.cpp             # the shipped model
    python benchmarks/to_gguf.py --llama ... --folder outputs/checkpoints/r1/policy           # any policy

First the converter runs on the folder as it is. llama.cpp has its own tokenizers and knows a byte-pair one by a fingerprint of
what it does with a test text, so a policy of Qwen2.5, whose tokenizer training leaves alone, has one that is known. The shipped
model's is a unigram tokenizer of 403 words, of which llama.cpp has no equal: the converter's words are in the record. Its
weights are then converted without a vocabulary, and every tensor is compared with ours, bit for bit. Where llama-cpp-python is
installed too, it continues prompts greedily from token ids, and the ids are compared. Writes `results/gguf.json` for the
shipped model, and `results/gguf-NAME.json` for another folder, after its name or its run's."""
import argparse, hashlib, json, os, subprocess, sys, tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
import numpy as np
import torch
from common import ROOT
from grpo_nb.lookup import SMALL
from grpo_nb.models import load_model, load_tokenizer
from grpo_nb.problems import generate_problems
from grpo_nb.prompts import PROMPT_FORMATS, make_prompt

WITHOUT_WORDS = '''
import runpy, sys
sys.path.insert(0, {llama!r}); sys.path.insert(1, {llama!r} + '/gguf-py')
from conversion.qwen import Qwen2Model
def no_words(self):
    self.gguf_writer.add_tokenizer_model('no_vocab')
    self.gguf_writer.add_vocab_size(self.hparams['vocab_size'])
Qwen2Model.set_vocab = no_words
sys.argv = ['convert_hf_to_gguf.py', *{args!r}]
runpy.run_path({llama!r} + '/convert_hf_to_gguf.py', run_name='__main__')
'''
NAMES = {'self_attn.q_proj':'attn_q', 'self_attn.k_proj':'attn_k', 'self_attn.v_proj':'attn_v', 'self_attn.o_proj':'attn_output', 'mlp.gate_proj':'ffn_gate', 'mlp.up_proj':'ffn_up',
         'mlp.down_proj':'ffn_down', 'input_layernorm':'attn_norm', 'post_attention_layernorm':'ffn_norm', 'model.embed_tokens':'token_embd', 'model.norm':'output_norm', 'model.layers':'blk'}


def convert(llama, folder, out, words):
    "Exit code and last words of the converter, which runs in a process of its own."
    args = [str(folder), '--outtype', 'f32', '--outfile', str(out)]
    command = [str(llama/'convert_hf_to_gguf.py'), *args] if words else ['-c', WITHOUT_WORDS.format(llama=str(llama), args=args)]
    done = subprocess.run([sys.executable, *command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, 'PYTHONPATH':os.pathsep.join([str(llama), str(llama/'gguf-py'), os.environ.get('PYTHONPATH', '')])})
    return done.returncode,done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ''


def tensors(model, out):
    "How many tensors of the file are ours to the bit, and which are not."
    from gguf import GGUFReader
    read = {t.name:t.data for t in GGUFReader(str(out)).tensors}
    different,mapped,ours = [],set(),{n:p for n,p in model.state_dict().items() if n != 'lm_head.weight' or not model.config.tie_word_embeddings}
    for name,p in ours.items():
        there = name
        for a,b in NAMES.items(): there = there.replace(a, b)
        mapped.add(there)
        if there not in read or not np.array_equal(read[there], p.float().numpy()): different.append(name)
    return dict(compared=len(ours), different=different, unknown=sorted(set(read) - mapped))


def continued(model, tok, out, n=4, tokens=48):
    "Greedy ids of llama.cpp beside those of transformers."
    from llama_cpp import Llama
    import llama_cpp
    llm = Llama(str(out), n_ctx=512, n_threads=1, logits_all=False, verbose=False)
    same,total = 0,0
    for fmt in PROMPT_FORMATS:
        for p in generate_problems(n, 7):
            ids = tok(make_prompt(p, tok, fmt), add_special_tokens=False).input_ids
            with torch.no_grad(): want = model.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False)[0, len(ids):].tolist()
            llm.reset(); llm.eval(ids)
            got = []
            for _ in want:
                row = np.ctypeslib.as_array(llama_cpp.llama_get_logits(llm.ctx), shape=(model.config.vocab_size,))
                got.append(int(row.argmax()))
                llm.eval(got[-1:])
            same,total = same + (got == want),total + 1
    return dict(prompts=total, same=same)


def record_name(folder):
    "The committed record is the shipped model's alone."
    f = folder.resolve()
    return 'gguf.json' if f == SMALL.resolve() else f"gguf-{f.parent.name if f.name == 'policy' else f.name}.json"


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--llama', type=Path, required=True, help='folder of llama.cpp, with convert_hf_to_gguf.py')
    p.add_argument('--folder', type=Path, default=SMALL, help='policy folder')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of the record')
    a = p.parse_args()
    if not (a.llama/'convert_hf_to_gguf.py').exists(): p.error(f'--llama should be a folder with convert_hf_to_gguf.py, got {a.llama}')
    if not (a.folder/'model.safetensors').exists(): p.error(f'--folder should be a policy folder with model.safetensors, got {a.folder}')
    model,tok = load_model(str(a.folder), 'float32', 'cpu'),load_tokenizer(str(a.folder))
    with tempfile.TemporaryDirectory() as tmp:
        code,said = convert(a.llama.resolve(), a.folder.resolve(), Path(tmp)/'whole.gguf', True)
        print('the folder as it is:', 'converted' if not code else said)
        out = Path(tmp)/'weights.gguf'
        weights,why = convert(a.llama.resolve(), a.folder.resolve(), out, False)
        if weights: raise SystemExit(f'without a vocabulary: {why}')
        compared = tensors(model, out)
        print(f"without a vocabulary: {compared['compared'] - len(compared['different'])} of {compared['compared']} tensors are ours to the bit")
        greedy = continued(model, tok, out) if find_spec('llama_cpp') else None
        print(f"greedy ids by llama.cpp: {greedy['same']} of {greedy['prompts']} prompts as by transformers" if greedy else 'llama-cpp-python is not installed: nothing was run')
    try: v = version('transformers')
    except PackageNotFoundError: v = None
    record = dict(converter=a.llama.resolve().parent.parent.name, transformers=v, weights_sha256=hashlib.sha256((a.folder/'model.safetensors').read_bytes()).hexdigest(),
                  whole=dict(converted=not code, said=said.replace(str(a.folder.resolve()), 'policy') if code else ''), tensors=compared, greedy=greedy)
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out/record_name(a.folder)).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__': main()

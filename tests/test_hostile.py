"Text, files and folders that mean harm, or were damaged: the verifier decides, the loaders say one sentence, the tables escape."
import html, json, os, pickle, random, re, shutil, sys
from html.parser import HTMLParser
from pathlib import Path
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from common import ROOT
sys.path.insert(0, str(ROOT/'benchmarks'))
import fuzz
from grpo_nb import rewards
from grpo_nb.lookup import SMALL, preset_for, resolve_model_name
from grpo_nb.models import check_model, load_model, load_tokenizer
from grpo_nb.problems import load_problems, sample_problem, solve
from grpo_nb.prompts import PROMPT_FORMATS, Problem
from grpo_nb.rewards import FAILURES, format_ok, grade, reward_function, safe_eval, shown
from grpo_nb.settings import GRPOConfig, given as given_settings

def often(n): return settings(max_examples=n, derandomize=True, deadline=None, database=None, phases=(Phase.explicit, Phase.generate, Phase.shrink),
                              suppress_health_check=list(HealthCheck))

# Strategies

PUZZLES = [Problem((3, 5, 2), 17), *(sample_problem(random.Random(k), 2 + k % 3, 'study') for k in range(20)), Problem((1, 1), 90), Problem((7, 7, 7, 7), 99)]
puzzles = st.sampled_from(PUZZLES)
formats, operators = st.sampled_from(PROMPT_FORMATS), st.sampled_from(('+-*', '+-*/'))
units = st.sampled_from(fuzz.UNITS)
anything = st.text(st.characters(codec=None, categories=None), max_size=60) # Surrogates, controls and NUL included
rngs = st.integers(0, 2**32).map(random.Random)
runs = st.tuples(units, st.sampled_from((1, 2, 3, 250, 501, 4400))).map(lambda u: u[0]*u[1])
soups = st.lists(st.one_of(units, runs, anything), max_size=12).map(''.join)
tags = st.lists(st.one_of(st.sampled_from(('<think>', '</think>', '<answer>', '</answer>', '<answer', '3*5+2', '3 * 5', ' ', '\n')), units), max_size=12).map(''.join)
expressions = st.builds(lambda rng, p: fuzz.expression(rng, rng.sample(p.nums, len(p.nums))), rngs, puzzles)
nested = st.builds(lambda n, s, m: '('*n + s + ')'*m, st.integers(0, 250), st.sampled_from(('3', '3*5+2', '-3', '')), st.integers(0, 250))

@st.composite
def attempts(draw):
    "A puzzle and a completion that nearly solves it, or does."
    p, rng, fmt = draw(puzzles), draw(rngs), draw(formats)
    expr = rng.choice(solve(p) or ['1 + 1']) if draw(st.booleans()) else fuzz.expression(rng, rng.sample(p.nums, len(p.nums)))
    return p, draw(st.sampled_from((lambda t: t, lambda t: fuzz.mutated(rng, t))))(fuzz.dressed(rng, p, fmt, expr))

texts = st.one_of(soups, tags, expressions, nested, anything, st.builds(lambda a, e, b: f'{a}<answer>{e}</answer>{b}', tags, st.one_of(expressions, nested, soups), tags))
cases = st.one_of(attempts(), st.tuples(puzzles, texts))

# The verifier

@often(500)
@given(cases, operators, st.booleans())
def test_a_verdict_stands_before_an_independent_solver(case, ops, truncated):
    p, text = case
    for fmt in PROMPT_FORMATS:
        strict, loose = (grade(text, p, fmt, lenient, ops, truncated) for lenient in (False, True))
        for g, lenient in ((strict, False), (loose, True)):
            assert fuzz.objection(g, text, p, fmt, lenient, ops) is None, (text, g)
            assert g.failure in FAILURES and (g.failure == 0) == g.correct and (g.failure != 2 or truncated)
        assert strict.correct <= loose.correct and strict.reward == loose.reward
        assert strict.correct == (strict.reward == 1) and strict.reward in ((0, 1) if fmt == 'natural' else (0, .1, .2, 1))
        assert reward_function([text], [p], fmt, ops) == ([strict.reward], [float(strict.correct)])
        if format_ok(text, fmt) and fmt != 'natural': assert strict.reward >= .2
        right = shown(text, p, ops)
        assert loose.correct == (strict.correct or right is not None)

@often(400)
@given(st.one_of(expressions, nested, soups, st.builds(lambda rng, e: fuzz.mutated(rng, e), rngs, expressions)), operators)
def test_values_are_those_of_another_parser(text, ops):
    value, other = safe_eval(text, ops), fuzz.exact(text, ops)
    if value is not None: assert other is not None and other[0] == value
    elif other is not None: # The caps are the only difference
        assert len(''.join(text.split())) > rewards.MAX_LENGTH or text.count('(') + text.count('-') > rewards.MAX_DEPTH

def test_the_other_parser_is_one():
    for text, value in {'3 * 5 + 2': 17, '-(2 - 5)*(4)': 12, '((((1))))': 1, '2*--3': 6, '(3)-(2)': 1, '('*199 + '1+2' + ')'*199: 3, '2\n*\f3': 6}.items(): assert fuzz.exact(text)[0] == value
    for text in ('', '3 +', '1_2', '07', '3 5', '3(5)', '(3)(5)', '(3) 5', '2**3', '+3', '3 + + 5', '3.0', '0x1', '1e1', '3 * 5 # 2', '٣*5', '(3', '3)', '6/3', '1//1', 'True', '()', '3,5', '3\u2009* 5'):
        assert fuzz.exact(text) is None, text
    assert fuzz.exact('8/(3-8/3)', '+-*/') == (24, [8, 3, 8, 3]) and fuzz.exact('1/(2-2)', '+-*/') is None

gaps = st.sampled_from(('', ' ', '  ', '\t', ' \t '))
@often(300)
@given(puzzles.filter(solve), st.integers(0, 10**6), gaps, st.sampled_from(('', '\n', ' ', ' \r\n\t')), st.sampled_from(fuzz.UNITS + ['1 + 1 = 2. ', '<answer>1</answer>']), st.sampled_from((0, 1, 40, 1800)))
def test_a_solution_is_accepted_in_any_dress_that_is_allowed(p, k, gap, edge, noise, times):
    right = solve(p)[k % len(solve(p))].replace(' ', gap)
    noise = '' if '<th' in noise else noise*times
    tagged = f'<think>{noise.replace("</", "<")} hm </think>{edge}<answer>{edge}{right}{edge}</answer>{edge}'
    assert all(grade(tagged, p, fmt).reward == 1 for fmt in ('zero-shot', 'one-shot'))
    fill = 'so we try again and say what we see, again and again; '*times # Longer than what is read of free text
    for text in (f'{fill}So {right} = {p.target}.', f'{fill}\n- **{right}**\n', f'{fill}\n$\\boxed{{{right.replace("*", chr(92) + "times ")}}}$', f'{fill}\n{right.replace("*", "×").replace("-", "−")}'):
        assert grade(text, p, 'natural').reward == 1, text[-80:]

def test_a_long_text_is_read_to_a_limit_and_never_better(monkeypatch):
    rng = random.Random(5)
    for name, kind in fuzz.KINDS.items():
        text = kind(rng, PUZZLES[0], fuzz.LONGEST)
        assert len(rewards._shorten(text)) <= rewards.MAX_READ, name
    squeezed = lambda text, signs: [''.join(s.split()) for s in rewards._spans(text, '+-*', signs)]
    for _ in range(600):
        text = fuzz.KINDS[rng.choice(('good', 'soup', 'sums', 'two'))](rng, PUZZLES[0], 300)
        for signs in (rewards._TWINS, rewards._LOOSE):
            monkeypatch.setattr(rewards, 'MAX_READ', 5000)
            whole = squeezed(text, signs)
            monkeypatch.setattr(rewards, 'MAX_READ', rng.randrange(5, 200))
            cut = squeezed(text, signs)
            assert whole[:len(cut)] == cut, text

def test_work_grows_with_what_is_read(monkeypatch):
    "Twice the text must not be more than twice the work; counted, not clocked: characters trimmed and parsed."
    done = []
    for name in ('_trim', '_parse'): monkeypatch.setattr(rewards, name, lambda s, *a, was=getattr(rewards, name): (done.append(len(s)), was(s, *a))[1])
    def work(text):
        done.clear()
        grade(text, PUZZLES[0], 'natural', True)
        return sum(done)
    for u in fuzz.UNITS:
        for n in (1000, 2000, 50000):
            assert work(u*(2*n//len(u))) <= 2*work(u*(n//len(u))) + 500, (u, n)

def test_corpus_keeps_its_verdicts():
    rows = [json.loads(line) for line in (ROOT/'tests/adversarial.jsonl').read_text('utf-8').splitlines()]
    found = [grade(r['completion'], Problem(r['nums'], r['target']), 'natural' if r['format'] == 'natural' else 'zero-shot').correct for r in rows]
    assert all(c == (r['expect'] == 'correct') for c, r in zip(found, rows) if not r.get('debatable'))

def test_fuzz_runs_and_finds_nothing(tmp_path, monkeypatch):
    import types
    write = lambda path, script, settings, **results: path.write_text(json.dumps(settings | results))
    monkeypatch.setitem(sys.modules, 'common', types.SimpleNamespace(table=print, write=write))
    fuzz.main(['--seconds', '1', '--seed', '3', '--out', str(tmp_path)])
    found = json.loads((tmp_path/'fuzz.json').read_text())
    assert not found['raised'] and not found['wrong'] and set(found['kinds']) == set(fuzz.KINDS) # How fast it was is for the record
    with pytest.raises(SystemExit): fuzz.main(['--seconds', '0'])

def test_the_record_of_the_fuzz_run_is_clean():
    found = json.loads((ROOT/'benchmarks/results/fuzz.json').read_text())
    assert not found['raised'] + found['wrong'] + found['slow'] and found['slowest_ms'] <= fuzz.LIMIT and all(k['longest'] > .9*fuzz.LONGEST for k in found['kinds'].values())

# Loaders

NORMAL = (OSError, ValueError, TypeError, KeyError)

def complaint(load, named):
    "What a loader says; a success is None, and everything else must be one line that names the file."
    try: load()
    except NORMAL as e:
        assert '\n' not in str(e) and str(named) in str(e) and len(str(e)) < 1000 + 2*len(str(named)), repr(e)
        return str(e)

def mutations(rng, data, n):
    "Copies of `data` cut short, with flipped bits, spliced, or replaced by noise."
    for _ in range(n):
        kind, b = rng.randrange(5), bytearray(data)
        if kind == 0: b = b[:rng.randrange(len(b))]
        if kind == 1: b = bytearray(rng.randbytes(rng.randrange(300)))
        if kind in (2, 3):
            for _ in range(1 if kind == 2 else 8): b[rng.randrange(min(len(b), 5000))] ^= 1 << rng.randrange(8)
        if kind == 4: b[(i := rng.randrange(min(len(b), 5000))):i] = rng.choice((b'{', b'[', b'"', b'\0', b'\xff\xfe', b'1e999', b'NaN', b'-1', b'9'*5000, b'\n', b','))
        yield bytes(b)

HOSTILE_JSON = {
    'deep': '['*200000, 'deep inside': '{"nums": ' + '['*200000, 'deep object': '{"a":'*100000, 'many digits': '{"nums": [1, 2], "target": ' + '9'*10000 + '}', 'nan': '{"nums": [1, NaN], "target": 3}',
    'infinite': '{"nums": [1, 2], "target": Infinity}', 'overflow': '{"nums": [1, 1e999], "target": 3}', 'nul': '{"nums": [1, 2], "target": 3\0}', 'bool': '{"nums": [true, 2], "target": 3}',
    'bool target': '{"nums": [1, 2], "target": true}', 'null': 'null', 'number': '17', 'list': '[1, 2]', 'text': '"nums"', 'no numbers': '{"nums": [], "target": 3}', 'object for list': '{"nums": {"1": 2}, "target": 3}',
    'number for list': '{"nums": 12, "target": 3}', 'nested': '{"nums": [[1], 2], "target": 3}', 'negative': '{"nums": [-1, 2], "target": 3}', 'half': '{"nums": [1.5, 2], "target": 3}', 'missing': '{"nums": [1, 2]}',
    'code': '__import__("os").system("touch ran")', 'text numbers': '{"nums": "1; 2", "target": 3}', 'long text': '{"nums": "' + '9'*5000 + '", "target": 3}', 'odd key': '{"nu\\u0000ms": [1], "target": 3}'}

def problem_file(tmp_path, kind, data):
    f = tmp_path/f'set.{kind}'
    f.write_bytes(data if isinstance(data, bytes) else data.encode())
    return f, lambda: load_problems(f)

@pytest.mark.parametrize('name', HOSTILE_JSON)
def test_hostile_problem_lines(tmp_path, name):
    for before in ('', '{"nums": [3, 5, 2], "target": 17}\n'):
        f, load = problem_file(tmp_path, 'jsonl', before + HOSTILE_JSON[name])
        said = complaint(load, f)
        assert said and f'row {1 + (before != "")}' in said

def test_hostile_problem_files(tmp_path):
    good = '{"nums": [3, 5, 2], "target": 17}\n'
    for kind, data in (('jsonl', ''), ('jsonl', '\n \n'), ('jsonl', b'\xff\xfe{}'), ('jsonl', good.encode() + b'\xc3('), ('csv', ''), ('csv', 'nums,target\n'), ('csv', b'\xff\xfe\0\0'), ('csv', 'nums,target\n"1 2'),
                       ('csv', 'nums,target\n1 2,3,4,5\n1,2'), ('csv', 'a,b\n1 2,3'), ('csv', 'nums,target\n,'), ('csv', 'nums,target\n1 2,'), ('csv', 'nums,target\n1 2,3.5'), ('csv', 'nums,target\n1 True,3'),
                       ('csv', b'nums,target\n1 2,3\0'), ('csv', 'nums,target\n"[1, __import__(\'os\')]",3'), ('csv', 'nums,target\n1 2,nan'), ('csv', b'\0'*1000), ('parquet', ''), ('parquet', 'PAR1' + 'x'*50 + 'PAR1'), ('parquet', b'\0'*100)):
        f, load = problem_file(tmp_path, kind, data)
        assert complaint(load, f), (kind, data)
    f, load = problem_file(tmp_path, 'jsonl', b'\xef\xbb\xbf' + good.encode()) # A byte order mark is no damage
    assert load() == [Problem((3, 5, 2), 17)]
    (tmp_path/'folder.jsonl').mkdir()
    os.mkfifo(tmp_path/'pipe.jsonl') # Would wait for ever
    for f in ('folder.jsonl', 'pipe.jsonl', 'absent.csv', 'set.txt', 'set'): assert complaint(lambda: load_problems(tmp_path/f), f)

def test_parquet_without_its_reader(tmp_path, monkeypatch):
    for name in ('pyarrow', 'fastparquet'): monkeypatch.setitem(sys.modules, name, None)
    f, load = problem_file(tmp_path, 'parquet', b'PAR1')
    assert 'pyarrow' in complaint(load, f)

@pytest.mark.parametrize('kind', ('jsonl', 'csv', 'parquet'))
def test_damaged_problem_files(tmp_path, kind):
    frame = pd.DataFrame(dict(nums=[[44, 19, 35], [3, 5, 2, 10], [1, 2]]*3, target=[98, 17, 3]*3))
    f = tmp_path/f'good.{kind}'
    if kind == 'parquet':
        pytest.importorskip('pyarrow')
        frame.to_parquet(f)
    elif kind == 'csv': frame.to_csv(f, index=False)
    else: frame.to_json(f, orient='records', lines=True)
    for data in mutations(random.Random(kind), f.read_bytes(), 150):
        g, load = problem_file(tmp_path, kind, data)
        complaint(load, g) # Either it reads whole problems or it says why not

@pytest.fixture
def folder(tmp_path):
    "A copy of the shipped model, to be spoilt."
    return Path(shutil.copytree(SMALL, tmp_path/'model'))

OPENERS = (check_model, load_tokenizer, lambda name: load_model(name, device='cpu'), preset_for)

def told(folder): return [complaint(lambda: f(str(folder)), folder) for f in OPENERS]

@pytest.mark.parametrize('name', sorted(f.name for f in SMALL.iterdir()))
def test_damaged_model_folders(folder, name):
    good = (SMALL/name).read_bytes()
    for data in mutations(random.Random(name), good, 12):
        (folder/name).write_bytes(data)
        told(folder)
    for data in (b'', b'[]', b'null', b'{', b'['*200000, b'{"a":'*100000, b'\xff\xfe', b'\0'*64):
        (folder/name).write_bytes(data)
        if name != 'generation_config.json': assert any(told(folder)), data[:9]

def rewrite(folder, name, **changes):
    cfg = json.loads((SMALL/name).read_text()) | changes
    (folder/name).write_text(json.dumps(cfg))

CONFIGS = [dict(num_hidden_layers=3, layer_types=['full_attention']*3), dict(num_hidden_layers=5, layer_types=['full_attention']*5), dict(num_hidden_layers=-1), dict(num_hidden_layers=10**6), dict(vocab_size=10**12), dict(vocab_size=-1),
           dict(hidden_size=10**8), dict(hidden_size='128'), dict(hidden_size=1e999), dict(num_attention_heads=0), dict(model_type='no-such'), dict(model_type=['qwen2']), dict(model_type='llama'), dict(rope_parameters='x'),
           dict(attn_implementation='owner/kernel'), dict(_attn_implementation='owner/kernel:function'), dict(dtype='os.system'), dict(quantization_config=dict(quant_method='no-such'))]

@pytest.mark.parametrize('changes', CONFIGS, ids=str)
def test_hostile_configurations(folder, changes):
    rewrite(folder, 'config.json', **changes)
    said = told(folder)
    assert said[2] or {'dtype', 'quantization_config'} & set(changes), 'a model was made of it' # These two are ignored where they mean nothing

def test_weights_that_are_not_those_of_the_model(folder):
    good, f = (SMALL/'model.safetensors').read_bytes(), folder/'model.safetensors'
    size = int.from_bytes(good[:8], 'little')
    for data in (good.replace(b'model.norm.weight', b'model.norm.weighu'), good[:-1], good + b'x', good[:8 + size], good[:8], (2**63 - 1).to_bytes(8, 'little') + good[8:], (2**26).to_bytes(8, 'little') + good[8:],
                 (size - 1).to_bytes(8, 'little') + good[8:], (2).to_bytes(8, 'little') + b'{}', pickle.dumps(dict(a=1)), good.replace(b'[128]', b'[127]', 1), good.replace(b'"F32"', b'"I64"', 1)):
        f.write_bytes(data)
        assert told(folder)[2], data[:40]
    f.unlink()
    (folder/'model.safetensors.index.json').write_text(json.dumps(dict(metadata={}, weight_map={'model.norm.weight': '../../../etc/passwd'})))
    assert told(folder)[0] and told(folder)[2]

def test_a_model_folder_runs_no_code(folder, tmp_path):
    ran, code = tmp_path/'ran', f'open({str(tmp_path/"ran")!r}, "w")\nclass X: pass\n'
    for module in ('evil.py', 'modeling_evil.py', '__init__.py'): (folder/module).write_text(code)
    maps = dict(auto_map={k: 'evil.X' for k in ('AutoConfig', 'AutoModelForCausalLM')} | dict(AutoTokenizer=['evil.X', 'evil.X']))
    for kind in ('qwen2', 'evil'):
        rewrite(folder, 'config.json', model_type=kind, **maps)
        rewrite(folder, 'tokenizer_config.json', tokenizer_class='X', **maps)
        told(folder)
    class Bomb:
        def __reduce__(self): return open, (str(ran), 'w')
    (folder/'model.safetensors').unlink()
    for name in ('pytorch_model.bin', 'model.safetensors'):
        (folder/name).write_bytes(pickle.dumps(Bomb()))
        assert told(folder)[2]
    rewrite(folder, 'tokenizer_config.json', chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('touch " + str(ran) + "') }}")
    assert told(folder)[1] and not ran.exists()

@pytest.mark.parametrize('changes', [dict(chat_template='{% for x in'), dict(chat_template=5), dict(chat_template='{{ 1/0 }}'), dict(chat_template='{{ raise_exception("system\nrole not supported") }}'), dict(chat_template=None),
                                     dict(eos_token=None), dict(eos_token=[1]), dict(extra_special_tokens=5), dict(added_tokens_decoder={'0': 5})], ids=str)
def test_hostile_tokenizer_settings(folder, changes):
    rewrite(folder, 'tokenizer_config.json', **changes)
    (folder/'chat_template.jinja').unlink(missing_ok=True)
    said = told(folder)
    assert said[0] and said[1]

def test_a_panic_below_python_is_a_sentence(folder, monkeypatch):
    class PanicException(BaseException): "As Rust's arrives: no `Exception`."
    def panic(*args, **kwargs): raise PanicException('index out of bounds:\nthe len is 3 but the index is 7')
    from grpo_nb import models
    for cls, method in ((models.PreTrainedTokenizerFast, 'from_pretrained'), (models.PreTrainedTokenizerFast, 'encode'), (models.AutoModelForCausalLM, 'from_pretrained'), (models.AutoConfig, 'from_pretrained')):
        with monkeypatch.context() as m:
            m.setattr(cls, method, panic)
            said = [s for s in told(folder) if s]
            assert said and all('PanicException: index out of bounds' in s for s in said)
    def stop(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr(models.AutoConfig, 'from_pretrained', stop) # Who presses Ctrl-C means it
    with pytest.raises(KeyboardInterrupt): load_model(str(folder), device='cpu')

@pytest.mark.parametrize('name', ['', ' ', '\0', 'a\0b', 'x'*100000, '~no-such-user/m', '../../..', '/dev/null', '@', 'a@', '@1', 'run@²', 'run@-1', 'run@1e3', 'a\nb', '\ud800', '/'*300, 'hf://', None, 5, b'small', ['small']], ids=lambda n: repr(n)[:20])
def test_hostile_model_names(name, tmp_path):
    (tmp_path/'checkpoints/run/policy').mkdir(parents=True)
    (tmp_path/'checkpoints/run/policy/config.json').write_text('{}')
    for step in ('step-²', 'step-1x', 'step-', 'step-00000003'):
        (tmp_path/'checkpoints/run'/step).mkdir()
        (tmp_path/'checkpoints/run'/step/'manifest.json').write_text('{}')
    try: found = resolve_model_name(name, tmp_path)
    except NORMAL as e: assert '\n' not in str(e)
    else: assert found[0] == 'hub'
    assert resolve_model_name('run@3', tmp_path)[0] == 'step'

JUNK = [None, True, 0, -1, 10**30, 1.5, float('nan'), float('inf'), '', '\0', 'x'*1000, b'x', [], {}, (1,), object(), 'DELETE', '1e-6', 'no', lambda: 0]

@pytest.mark.parametrize('name', GRPOConfig.defaults())
def test_junk_in_settings(name):
    for v in JUNK:
        try: cfg = GRPOConfig(**{'run_name': 'r', 'model_name': 'small', name: v})
        except (TypeError, ValueError) as e: assert '\n' not in str(e) and re.search(r'\bshould be\b', str(e)), repr(e)
        else: assert getattr(cfg, name) is not None or v is None
        try: given_settings(GRPOConfig, {name: v, 'In': ['# Parameters\n' + f'{name} = 1\nno_such_{name} = 2']})
        except ValueError as e: assert f'no_such_{name}' in str(e) and '\n' not in str(e)
        else: pytest.fail('an unknown name was taken')

def test_unknown_settings_are_named():
    with pytest.raises(TypeError, match='no_such'): GRPOConfig(no_such=1)
    assert given_settings(GRPOConfig, {}) == {} and given_settings(GRPOConfig, {'In': ['', 'x = 1', '# Parameters\nresume = True'], 'resume': True}) == dict(resume=True)

# Tables

class Parsed(HTMLParser):
    "Elements with their attributes, the text, and whether all that opened was closed in order."
    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.found, self.open, self.said = set(), [], ''
        self.feed(source)
        self.close()
        assert not self.open, self.open
    def handle_starttag(self, tag, attrs):
        self.found |= {(tag, *sorted(attrs))}
        if tag != 'br': self.open.append(tag)
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.said += data
    def handle_comment(self, data): pytest.fail(f'a comment: {data!r}')
    handle_decl = handle_pi = unknown_decl = handle_comment

EVIL = ['<script>alert(1)</script><img src=x onerror=alert(1)>', '"><svg onload=alert(1)>', "' onmouseover='alert(1)", '&lt;script&gt;alert(1)&lt;/script&gt;', '&#60;script&#62;', '</td></tr></table><h1>all right</h1>', '</pre><b>', '<!-- ', '-->', '<![CDATA[x]]>', '<?php ?>',
        '<think><script></think></script>', '<think>a<answer>b</think>c</answer>', '</think><think>', '<answer><answer></answer>', '<think>' * 50, '</answer>' * 50, '<think onclick=x>', '<think\n>a</think>', '<answer style="x">3</answer>', '<<think>>', '<think</think>', '&think;', '<small>', '</span>',
        '</small></span><img src=x>', '$\\href{javascript:alert(1)}{x}$', '\\(x\\)', '[x](javascript:alert(1))', '**x** <u>', '\0<\0script>', '\u202eevil', '\ud800<script>', '\x1b[2J', 'javascript:alert(1)', '\r\n<p>', '＜script＞', '\\1\\g<0>', '{0}{}', '%s%d', '']

def evil_texts():
    rng = random.Random(7)
    pieces = [*EVIL, '<think>', '</think>', '<answer>', '</answer>', 'a', '<', '>', '&', '"', "'"]
    return EVIL + [''.join(rng.choices(pieces, k=rng.randrange(2, 9))) for _ in range(150)]

def rows_of(texts, **more):
    found = [dict(completion=t, nums=[3, 5, 2], target=17, problem='3 5 2 = 17', format='zero-shot', model='m', num_count=3, truncated=False, **vars(grade(t, PUZZLES[0], 'zero-shot'))) for t in texts]
    return pd.DataFrame(found).assign(**more)

def only_ours(source, texts, make):
    "No element or attribute but those of a harmless table, and the text to be read."
    parsed, ours = Parsed(source), Parsed(make(['<think> a </think> <answer> b </answer>', '<think> <answer> </think> <answer> <think> </answer>', '<think><answer></think><answer><think></answer>', '<answer>3 * 5 + 2</answer>', 'x'])).found
    assert parsed.found <= ours, parsed.found - ours
    for t in texts: # All that a screen can show is there, as it was written
        assert re.sub('[^!-~]', '', t) in re.sub('[^!-~]', '', parsed.said), t
    assert not re.search('[\0-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]', source)

def test_tables_of_completions_escape():
    from grpo_nb.scoring import completions_table
    for texts in ([t] for t in evil_texts()): only_ours(completions_table(rows_of(texts)).data, texts, lambda ts: completions_table(rows_of(ts)).data)
    texts = evil_texts()
    only_ours(completions_table(rows_of(texts), len(texts)).data, texts, lambda ts: completions_table(rows_of(ts)).data)
    odd = rows_of(['x']*2, nums=[['<b>', '"'], [3]], target=['<i>', 17]) # From a file that someone else wrote
    assert Parsed(completions_table(odd, verdict=['<script>', '&lt;']).data).found <= Parsed(completions_table(rows_of(['x'])).data).found

def test_colours_follow_the_tags():
    from grpo_nb.scoring import completions_table
    source = completions_table(rows_of(['<think> a </think> b <answer> c </answer>'])).data
    assert source.count('<span style="color:#888"> a </span>') == 1 and 'underline' not in source and source.count('<span style="color:#CC79A7;font-size:85%">') == 4
    assert completions_table(rows_of(['<think> a <answer> b'])).data.count('<span') == 3 # Only the verdict and the tags

def test_outcomes_escape():
    from grpo_nb.outcomes import examples
    make = lambda ts: examples(rows_of(ts, outcome=pd.Categorical(['wrong value']*len(ts))), len(ts)).data
    for texts in ([t] for t in evil_texts()): only_ours(make(texts), texts, make)

def test_answers_escape():
    from grpo_nb.inference import Answer, AskConfig
    make = lambda ts: Answer(AskConfig('3 5 2 = 17'), 'm', rows_of(ts))._repr_html_()
    for texts in ([t] for t in evil_texts() if t.strip()): only_ours(make(texts), texts, lambda ts: make(ts) + make(ts[:1]) + make(ts[1:2]))
    for model in EVIL:
        source = Answer(AskConfig('3 5 2 = 17'), model, rows_of(['x']))._repr_html_()
        assert Parsed(source).found <= Parsed(make(['x'])).found
    foreign = Answer(AskConfig('<script>alert(1)</script>'), 'm', rows_of(EVIL[:3])[['completion', 'truncated']])
    assert not {'script', 'img', 'svg'} & {t[0] for t in Parsed(foreign._repr_html_()).found}

def test_objects_escape():
    import mistune, torch # Markdown as nbconvert renders it
    from grpo_nb.inference import AskConfig
    from grpo_nb.rewards import Grade
    from grpo_nb.rollouts import Rollout
    render, (ones, none) = mistune.create_markdown(escape=False, plugins=['table', 'url', 'strikethrough', 'math']), (torch.ones(1, 3), torch.zeros(1, 3))
    def made(t):
        yield Grade(False, .2, 3, t, None)
        yield Rollout(None, None, None, ones, none, [t], none.bool()[:,0])
        if t.strip(): yield AskConfig(t)
    for t in (t for t in evil_texts() if len(t) < 190):
        for o in made(t): only_ours(render(o._repr_markdown_()), [t], lambda ts: ''.join(render(h._repr_markdown_()) for h in made(ts[-1]) if type(h) is type(o)))

def test_views_escape(tmp_path):
    from grpo_nb.browser import completions
    from grpo_nb.comparing import runs as table_of
    from grpo_nb.dashboard import watch
    from grpo_nb.runs import Run
    def seen(texts, name): # All HTML that the views of a run make
        run = Run.start(name, dict(iterations=1, num_generations=2, model_name=texts[0][:80]), outputs=tmp_path/name)
        run.log_completions(rows_of(texts, step=1, advantage=0., length=3).to_dict('records'))
        run.fail(ValueError(texts[0]))
        b = completions(run)
        b.mode.value = 'list'
        return ''.join((b.to_html(), b.case.value, watch(run).to_html(), table_of(tmp_path/name).to_html()))
    plain,texts = Parsed(seen(['x', '<think> 3 </think> <answer> 3 </answer>', '<answer> 3 * 5 + 2 </answer>'], 'plain')),EVIL
    evil = Parsed(seen(texts, 'evil'))
    assert {t[0] for t in evil.found} <= {t[0] for t in plain.found}
    assert not {t for t in evil.found - plain.found if any(k.startswith('on') for k,_ in t[1:])}
    for t in texts[:24]: assert re.sub('[^!-~]', '', t) in re.sub('[^!-~]', '', evil.said), t # The first page of the list

def test_frames_and_sentences_escape():
    from grpo_nb.scoring import accuracy_table
    from grpo_nb.transfer import results
    label = '<img src=x onerror=alert(1)>'
    rows = rows_of(EVIL[:12], problem=[f'{k}' for k in range(12)], model=label, ops_needed='multiplication needed')
    for frame in (accuracy_table(rows, ['num_count', 'model', 'format']), rows): assert 'img' not in {t[0] for t in Parsed(frame._repr_html_()).found}
    said = results(rows, trained={label: '<script>x</script>'}).data
    assert '<img' not in said and '<script' not in said and html.escape(label, quote=False) in said

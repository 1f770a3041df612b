"Checkpoints, manifests and logs that were damaged or mean harm: what is whole is used, what is not is named, and nothing else happens."
import gzip, json, pickle, random
import pytest
import torch
from grpo_nb.records import append_rows, read_rows, unpack
from grpo_nb.runs import Run, list_runs
from grpo_nb.states import Checkpoint

DEEP = '['*200000
SPOILT = {'empty': b'', 'cut': b'{"state.json": {"by', 'noise': bytes(range(256)), 'text': b'hello', 'null': b'null', 'list': b'[]', 'number': b'17', 'no files': b'{}', 'deep': DEEP.encode(), 'deep object': b'{"a":'*100000,
          'many digits': b'9'*10000, 'nan': b'NaN', 'bad utf-8': b'{"\xff\xfe": 1}', 'mark': b'\xef\xbb\xbf{}', 'nul': b'{}\0', 'wide': '{}'.encode('utf-16')}

def mutated(rng, data):
    "A copy cut short, with flipped bits, or spliced."
    b = bytearray(data)
    kind, i = rng.randrange(4), rng.randrange(len(b))
    if kind == 0: return bytes(b[:i])
    if kind == 1: b[i] ^= 1 << rng.randrange(8)
    if kind == 2: b[i:i] = rng.choice((b'{', b'[', b'"', b'\0', b'\xff', b'1e999', b'9'*5000, b'\n', b'null'))
    if kind == 3: b[i:i + rng.randrange(1, 40)] = rng.randbytes(rng.randrange(40))
    return bytes(b)

@pytest.fixture
def saved(tmp_path):
    "Three checkpoints of a run."
    folder = tmp_path/'checkpoints'
    for step in (1, 2, 3): Checkpoint.save(folder, step, dict(policy=dict(w=torch.arange(40.) + step), optimizer=dict(m=torch.ones(7))), dict(step=step, seed=5), keep=3)
    return folder

def sentence(c):
    "What is wrong with a checkpoint: text of one line."
    said = c.damage()
    assert isinstance(said, str) and '\n' not in said and len(said) < 1000, said
    return said

def newest(folder): return Checkpoint(max(folder.glob('step-*')))

def skips(folder, capsys):
    "The newest is skipped with its reason, and the one before is taken."
    capsys.readouterr()
    taken, said = Checkpoint.latest(folder), capsys.readouterr().out
    assert taken.step == 2 and 'step 3' in said and sentence(newest(folder)) in said
    return said

def test_whole_checkpoints_are_taken(saved, capsys):
    assert [sentence(Checkpoint(p)) for p in sorted(saved.glob('step-*'))] == ['']*3
    assert Checkpoint.latest(saved).step == 3 and capsys.readouterr().out == '' and Checkpoint.latest(saved/'none') is None

@pytest.mark.parametrize('name', SPOILT)
def test_manifest_of_a_checkpoint_is_not_json(saved, capsys, name):
    (newest(saved).path/'manifest.json').write_bytes(SPOILT[name])
    assert sentence(newest(saved))
    skips(saved, capsys)

GOOD = dict(bytes=1, sha256='0'*64)
@pytest.mark.parametrize('entry', [
    {'/etc/passwd': GOOD}, {'../step-00000002/state.json': GOOD}, {'..': GOOD}, {'.': GOOD}, {'': GOOD}, {'a/b': GOOD}, {'a\0b': GOOD}, {'x'*5000: GOOD}, {'absent.bin': GOOD}, {'\ud800': GOOD}, {'manifest.json': GOOD},
    {'state.json': 5}, {'state.json': None}, {'state.json': []}, {'state.json': dict(bytes='many', sha256='0')}, {'state.json': dict(bytes=None, sha256='0')}, {'state.json': dict(bytes=-1, sha256='0'*64)},
    {'state.json': dict(bytes=1e999, sha256='0')}, {'state.json': dict(bytes=True, sha256='0')}, {'state.json': dict(sha256='0')}, {'state.json': dict(bytes=10**30, sha256='0')}, {'state.json': dict(bytes=16)},
    {'state.json': dict(bytes=16, sha256=5)}], ids=lambda e: repr(e)[:50])
def test_manifest_of_a_checkpoint_lists_odd_things(saved, capsys, entry):
    f = newest(saved).path/'manifest.json'
    f.write_text(json.dumps(json.loads(f.read_text()) | entry))
    assert sentence(newest(saved))
    skips(saved, capsys)

def test_a_manifest_that_leads_outside_is_not_followed(saved, tmp_path):
    "Even where size and checksum of the file out there are right."
    from grpo_nb.states import checksum
    secret, f = tmp_path/'secret', newest(saved).path/'manifest.json'
    secret.write_text('x')
    for name in (str(secret), '../../secret'):
        f.write_text(json.dumps(json.loads(f.read_text()) | {name: checksum(secret)}))
        assert sentence(newest(saved))

@pytest.mark.parametrize('name', ['policy.safetensors', 'optimizer.safetensors', 'state.json'])
def test_files_of_a_checkpoint_damaged(saved, capsys, name):
    f, rng = newest(saved).path/name, random.Random(name)
    good = f.read_bytes()
    for _ in range(40):
        if (bad := mutated(rng, good)) == good: continue
        f.write_bytes(bad)
        assert name in sentence(newest(saved))
    skips(saved, capsys)
    f.unlink()
    assert name in skips(saved, capsys)
    f.mkdir()
    assert name in skips(saved, capsys)
    f.rmdir()
    f.symlink_to(f)
    assert sentence(newest(saved))

def resealed(folder):
    "A manifest that fits the files, as an attacker would write it."
    from grpo_nb.states import checksum
    path = newest(folder).path
    (path/'manifest.json').write_text(json.dumps({f.name: checksum(f) for f in sorted(path.iterdir()) if f.name != 'manifest.json'}))

def test_files_that_fit_their_manifest_and_are_no_checkpoint(saved, capsys):
    "A checksum proves that nothing changed, not that it is what it should be."
    path = newest(saved).path
    good = {f.name: f.read_bytes() for f in path.iterdir()}
    class Bomb:
        def __reduce__(self): return open, (str(saved/'ran'), 'w')
    for name, data in [('policy.safetensors', d) for d in (b'', b'x', (2**63 - 1).to_bytes(8, 'little') + b'{}', (2).to_bytes(8, 'little') + b'{', pickle.dumps(Bomb()))] + \
                      [('state.json', d) for d in (b'', b'{', b'[]', b'null', DEEP.encode(), b'\xff')]:
        (path/name).write_bytes(data)
        resealed(saved)
        assert name in sentence(newest(saved)), (name, data[:20])
        skips(saved, capsys)
        (path/name).write_bytes(good[name])
    assert not (saved/'ran').exists()

def test_names_that_are_no_checkpoints(saved):
    for name in ('step-', 'step-x', 'step-00000004x', 'step-²', '.unfinished', 'step-5.tmp', 'policy'): (saved/name).mkdir()
    (saved/'step-00000009').write_text('a file')
    assert Checkpoint.latest(saved).step == 3

def test_nothing_whole_is_nothing(saved, capsys):
    for p in saved.glob('step-*'): (p/'manifest.json').unlink()
    assert Checkpoint.latest(saved) is None
    assert all(f'step {k}' in (said := capsys.readouterr().out) or said == '' for k in (1,))

# Manifests of runs

@pytest.fixture
def runs(tmp_path):
    "A folder of two runs with a few steps each."
    for name in ('good', 'bad'):
        r = Run.start(name, dict(iterations=5), outputs=tmp_path)
        for step in (1, 2): r.log_metrics(dict(step=step, reward=.5, accuracy=.1))
        r.finish()
    return tmp_path

def unreadable(outputs):
    "The run `bad` says what is wrong, and the list goes on without it."
    with pytest.raises(ValueError) as e: Run('bad', outputs).manifest
    assert '\n' not in str(e.value) and str(outputs/'bad'/'manifest.json') in str(e.value)
    table = list_runs(outputs).set_index('run_name')
    assert table.state.to_dict() == dict(good='done', bad='unreadable') and table.steps['good'] == 2

@pytest.mark.parametrize('name', SPOILT)
def test_manifest_of_a_run_is_not_json(runs, name):
    (runs/'bad/manifest.json').write_bytes(SPOILT[name])
    unreadable(runs)

@pytest.mark.parametrize('changes', [dict(state=5), dict(state=None), dict(settings=[]), dict(settings=None), dict(settings='x')], ids=str)
def test_manifest_of_a_run_is_of_another_kind(runs, changes):
    f = runs/'bad/manifest.json'
    f.write_text(json.dumps(json.loads(f.read_text()) | changes))
    unreadable(runs)

@pytest.mark.parametrize('changes', [dict(starts=None), dict(starts=[]), dict(starts=[5]), dict(starts=[dict(at=7)]), dict(starts=[dict(at=None)]), dict(starts={}), dict(heartbeat='never', state='running'), dict(heartbeat=5, state='running'), dict(heartbeat='2020-01-01', state='running'), dict(run_name='../x'), dict(error=[[]])], ids=str)
def test_the_list_of_runs_survives_odd_facts(runs, changes):
    f = runs/'bad/manifest.json'
    f.write_text(json.dumps(json.loads(f.read_text()) | changes))
    table = list_runs(runs).set_index('run_name')
    assert table.state['good'] == 'done' and set(table.index) == {'good', 'bad'}

@pytest.mark.parametrize('row', ['"x"', '{"step": "1", "reward": "much"}', '{"step": 1, "reward": [1]}', '{"reward": {"a": 1}}', '{}', '{"accuracy": 1e999}', '{"step": null, "reward": null}'])
def test_the_list_of_runs_survives_odd_metrics(runs, row):
    (runs/'bad/metrics.jsonl').write_text(row + '\n')
    table = list_runs(runs).set_index('run_name')
    assert table.state['good'] == 'done' and set(table.index) == {'good', 'bad'}

def test_damaged_manifests_of_runs(runs):
    f, rng = runs/'bad/manifest.json', random.Random(3)
    good = f.read_bytes()
    for _ in range(60):
        f.write_bytes(mutated(rng, good))
        try: Run('bad', runs).manifest
        except ValueError as e: assert '\n' not in str(e) and str(f) in str(e)
        assert list_runs(runs).set_index('run_name').state['good'] == 'done'

@pytest.mark.parametrize('name', ['', '.', '..', '../x', 'a/b', '/etc', 'a\0b', 'x'*500, 'checkpoints/good', '\ud800', None, 5], ids=repr)
def test_names_of_runs(tmp_path, name):
    with pytest.raises((ValueError, TypeError, OSError)) as e: Run(name, tmp_path)
    assert '\n' not in str(e.value)

# Logs

ROWS = [dict(step=k, reward=k/3, text='ä<\n>') for k in range(6)]

def log(tmp_path, data, name='metrics.jsonl'):
    f = tmp_path/name
    f.write_bytes(data)
    return f

def refused(path, named=None):
    with pytest.raises(ValueError) as e: read_rows(path)
    assert '\n' not in str(e.value) and str(named or path) in str(e.value) and len(str(e.value)) < 1000

def test_a_cut_last_line_is_ignored(tmp_path):
    f = tmp_path/'metrics.jsonl'
    append_rows(f, ROWS)
    data = f.read_bytes()
    ends = [i + 1 for i, b in enumerate(data) if b == 10]
    for n in range(len(data) + 1): assert read_rows(log(tmp_path, data[:n])) == ROWS[:sum(e <= n for e in ends)]
    assert read_rows(log(tmp_path, data + b'\xff\xfe{')) == ROWS and read_rows(tmp_path/'absent.jsonl') == []

@pytest.mark.parametrize('line', ['{', '{"a": 1,}', 'x', 'null', '17', '[1]', '"a"', '{} {}', '{}\0', 'NaN', DEEP, '{"a":'*100000, '9'*10000, "{'a': 1}", b'{"\xff": 1}', b'\xc3(', b'\xef\xbb\xbf{}', b'\0'*50], ids=lambda l: repr(l)[:20])
def test_lines_that_are_no_rows(tmp_path, line):
    line = line if isinstance(line, bytes) else line.encode()
    for before in (b'', b'{"step": 1}\n'):
        for after in (b'', b'{"step": 2}\n'): refused(log(tmp_path, before + line + b'\n' + after))

def test_line_ends_within_a_text_divide_nothing(tmp_path):
    for mark in '\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e':
        assert read_rows(log(tmp_path, json.dumps(dict(text=f'a{mark}b'), ensure_ascii=False).encode() + b'\n')) == [dict(text=f'a{mark}b')] or ord(mark) < 32 # JSON escapes these

def test_damaged_packed_logs(tmp_path):
    plain = ''.join(json.dumps(r) + '\n' for r in ROWS).encode()
    good, rng = gzip.compress(plain), random.Random(9)
    f = log(tmp_path, good, 'metrics.jsonl.gz')
    assert read_rows(tmp_path/'metrics.jsonl') == ROWS
    for data in [b'', b'x', good[:10], good[:-1], good[:-8], good + b'x', plain, b'\x1f\x8b' + bytes(30), gzip.compress(b'{\n'), gzip.compress(b'\xff\n'), *(mutated(rng, good) for _ in range(60))]:
        f.write_bytes(data)
        try: assert read_rows(tmp_path/'metrics.jsonl') == ROWS[:len(read_rows(tmp_path/'metrics.jsonl'))]
        except ValueError as e: assert '\n' not in str(e) and str(tmp_path/'metrics.jsonl') in str(e)
    for data in (b'x', good[:-1], b'\x1f\x8b' + bytes(30)):
        f.write_bytes(data)
        refused(tmp_path/'metrics.jsonl')
        try: unpack(tmp_path) # Refuses or leaves what it cannot unpack; never throws it away
        except (ValueError, OSError) as e: assert '\n' not in str(e) and str(tmp_path) in str(e)
        assert f.read_bytes() == data

def test_damaged_logs(tmp_path):
    plain, rng = ''.join(json.dumps(r) + '\n' for r in ROWS).encode(), random.Random(11)
    for _ in range(150):
        f = log(tmp_path, mutated(rng, plain))
        try: assert all(isinstance(r, dict) for r in read_rows(f))
        except ValueError as e: assert '\n' not in str(e) and str(f) in str(e)

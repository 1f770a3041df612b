"Adapters over whole and over few bits, from the first step to a question: trained, killed, continued, exported, evaluated, asked."
import json, shutil
import pytest, torch
from grpo_nb.bits import bits_of, few_bits, keep_word
from grpo_nb.inference import main
from grpo_nb.lora import merge_adapter
from grpo_nb.models import load_model, load_tokenizer
from grpo_nb.runs import Run, differences
from grpo_nb.scoring import evaluate, problem_set
from grpo_nb.training import GRPOConfig, begin, train

TINY = dict(model_name='small', device='cpu', iterations=2, batch_size=2, num_generations=4, max_new_tokens=24, val_batch_size=2, report_problems=0,
            log_every=2, save_every=1, num_threads=1, lora_rank=16)
KINDS = {'4bit': dict(load_in_4bit=True), '8bit': dict(load_in_8bit=True, export='adapter', lora_targets='q_proj v_proj down_proj')}

def settings(name, **kw): return GRPOConfig.for_model(**{**TINY, 'run_name':name, **kw})

@pytest.fixture(scope='module')
def outputs(tmp_path_factory): return tmp_path_factory.mktemp('adapters')

@pytest.fixture(scope='module', params=KINDS)
def trained_run(request, outputs): return train(settings(request.param, **KINDS[request.param]), outputs=outputs),KINDS[request.param]

def test_trains_and_all_names_are_one_model(trained_run, outputs):
    run,kind = trained_run
    assert run.manifest['state'] == 'done' and len(run.metrics) == 2 and run.metrics.grad_norm.gt(0).all()
    policy,step = (load_model(n, device='cpu', outputs=outputs) for n in (run.run_name, f'{run.run_name}@2'))
    assert all(map(torch.equal, policy.parameters(), step.parameters()))
    assert not any(map(bits_of, policy.modules()))
    files = {f.name for f in run.policy_dir.iterdir()}
    assert ('adapter_model.safetensors' in files) == (kind.get('export') == 'adapter') != ('model.safetensors' in files)
    note = run.latest_checkpoint().state['lora']
    assert note['bits'] == (8 if kind.get('load_in_8bit') else 4) and note['base'] == 'small'

def test_what_was_trained_is_what_others_load(trained_run, outputs):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    run,kind = trained_run
    ids,ours = torch.tensor([[5, 6, 7, 8, 9]]),load_model(run.run_name, device='cpu', outputs=outputs)
    if kind.get('export') == 'adapter':
        base = json.loads((run.policy_dir/'adapter_config.json').read_text())['base_model_name_or_path']
        bits = 8 if kind.get('load_in_8bit') else 4
        theirs = PeftModel.from_pretrained(keep_word(AutoModelForCausalLM.from_pretrained(base, **few_bits(bits))), run.policy_dir)
    else: theirs = AutoModelForCausalLM.from_pretrained(run.policy_dir)
    with torch.no_grad(): one,two,start = (m.eval()(ids).logits for m in (ours, theirs, load_model('small', device='cpu')))
    assert (one - two).abs().max() < 1e-4*one.abs().max() and (one - start).abs().max() > 1e-2

def test_killed_and_continued_it_is_the_same_run(trained_run, outputs, monkeypatch, tmp_path):
    run,kind = trained_run
    cfg = settings(run.run_name, **kind)
    import grpo_nb.training as t
    real,steps = t.collect,[]
    def collect(cfg, model, tok, step, *args):
        steps.append(step)
        if len(steps) == 2: raise KeyboardInterrupt
        return real(cfg, model, tok, step, *args)
    monkeypatch.setattr(t, 'collect', collect)
    with pytest.raises(KeyboardInterrupt): train(cfg, outputs=tmp_path)
    monkeypatch.setattr(t, 'collect', real)
    torch.manual_seed(99)
    again = train(settings(run.run_name, resume=True, **kind), outputs=tmp_path)
    assert steps == [1, 2] and differences(run, again) == []

def test_it_can_be_evaluated_and_asked(trained_run, outputs, monkeypatch, capsys):
    run,_ = trained_run
    model,tok = load_model(f'{run.run_name}@1', device='cpu', outputs=outputs),load_tokenizer(run.run_name, outputs)
    assert len(evaluate(model, tok, problem_set('heldout', 3, 4), 'zero-shot', 1, 0., 24)) == 4
    monkeypatch.setenv('GRPO_OUTPUTS', str(outputs))
    for name in (run.run_name, f'{run.run_name}@1'):
        assert main(['Using the numbers [4, 7, 3], create an expression that equals 25.', '--run_name', name, '--no_oneshot']) in (0, 1)
        assert '<think>' in capsys.readouterr().out

def test_what_cannot_be_is_refused_before_a_model_is_loaded(trained_run, outputs, monkeypatch):
    run,kind = trained_run
    monkeypatch.setenv('GRPO_OUTPUTS', str(outputs))
    with pytest.raises(ValueError, match="lora_targets should name linear layers, such as q_proj, .* got 'w_q'"): begin(settings('bad', lora_targets='w_q'), outputs)
    for kw in (dict(load_in_4bit=True), dict(export='adapter')):
        with pytest.raises(ValueError, match='is an adapter; load_in_4bit'): begin(settings('bad', **{**kw, 'model_name':f'{run.run_name}@2'}), outputs)
    assert not Run('bad', outputs, must_exist=False).exists

def test_a_base_that_has_changed_is_refused(trained_run, tmp_path):
    run,kind = trained_run
    c = run.latest_checkpoint()
    note = c.state['lora']
    base = load_model('small', device='cpu', bits=note['bits'])
    with torch.no_grad(): base.model.norm.weight[0] += .1
    with pytest.raises(ValueError, match='whose weights are others now'): merge_adapter(base, c.tensors('weights'), note)
    if kind.get('export') != 'adapter': return
    shutil.copytree(run.policy_dir, tmp_path/'policy')
    (tmp_path/'policy'/'lora.json').write_text(json.dumps(dict(note, fingerprint='0')))
    with pytest.raises(OSError, match="trained in 'small', whose weights are others now"): load_model(str(tmp_path/'policy'), device='cpu')
    (tmp_path/'policy'/'lora.json').write_text('{')
    with pytest.raises(OSError, match='lora.json could not be read'): load_model(str(tmp_path/'policy'), device='cpu')

"What tools/docs.py makes of a notebook; `make test-site` looks at the drawn pages."
import sys
import pytest
from execnb.nbio import mk_cell, new_nb, read_nb, write_nb
from common import ROOT

sys.path.insert(0, str(ROOT/'tools'))
import docs

@pytest.mark.parametrize('quarto,myst', [
    ('::: {.callout-warning}\nNever.\n:::\n\nMore.', ':::{warning}\nNever.\n:::\n\nMore.'),
    ('::: {.callout-note collapse="true"}\n## A title\n\nBody\n:::', ':::{admonition} A title\n:class: note\nBody\n:::'),
    ('[a](05_objective.ipynb#advantages), [b](00_prompts.html)', '[a](/objective.ipynb#advantages), [b](/prompts.ipynb)'),
    ('[r](../outputs/records/small-seed0.ipynb)', '[r](/record/small-seed0.ipynb)'),
    ('[f](../benchmarks/step.py)', f'[f]({docs.REPOSITORY}benchmarks/step.py)'),
    ('[d](data/study.csv), [h](#heading), [w](https://example.org/a.html)', f'[d]({docs.REPOSITORY}nbs/data/study.csv), [h](#heading), [w](https://example.org/a.html)'),
    ('`kl_k3` and `kl_k3()`', '{py:obj}`kl_k3 <grpo_nb.objective.kl_k3>` and {py:obj}`kl_k3() <grpo_nb.objective.kl_k3>`'),
    ('[`kl_k3`](https://example.org), `no_name_of_ours`', '[`kl_k3`](https://example.org), `no_name_of_ours`'),
    ('`05_objective`', '[`05_objective`](/objective.ipynb)'),
    ('```\n`kl_k3`\n```', '```\n`kl_k3`\n```'),
    ('$$x$$ {#eq-x}\n\nBy @eq-x', '$$x$$ (eq-x)\n\nBy {eq}`eq-x`'),
], ids=lambda s: None)
def test_prose(quarto, myst): assert docs.prose(quarto) == myst

def staged(folder, *cells, **options):
    "Cells of the page that a notebook of these cells becomes, its head apart."
    write_nb(new_nb([mk_cell('# Title\n\n> Promise.', 'markdown'), *cells]), folder/'05_objective.ipynb')
    docs.stage(folder/'05_objective.ipynb', folder/'page.ipynb', lambda title, promise, nb: f'{title}: {promise}', 'grpo_nb.objective', **options)
    head, *rest = read_nb(folder/'page.ipynb').cells
    assert head.source == 'Title: Promise.'
    return rest

def test_directives_are_obeyed_and_gone(tmp_path):
    cells = staged(tmp_path, mk_cell('#| hide\nsecret = 1'), mk_cell('#| default_exp objective'), mk_cell('#| include: false\nx'),
                   mk_cell('#| echo: false\nshown()'), mk_cell('#| code-fold: true\nfolded()'), mk_cell('#| eval: false\nrun()'))
    assert [c.source for c in cells] == ['shown()', 'folded()', 'run()']
    assert [c.metadata.get('tags') for c in cells] == [['remove-input'], ['hide-input'], None]

def test_exported_code_is_described_on_its_page_and_folded_in_a_record(tmp_path):
    code = '#| export\ndef kl_k3(logps:float, ref_logps:float=2**3)->float: # KL\n    "The `kl_k3` estimate."\n\n@patch\ndef f(self:Run): pass'
    described, source = staged(tmp_path, mk_cell(code))
    assert described.source == '````{py:function} kl_k3(logps, ref_logps=2 ** 3)\nThe {py:obj}`kl_k3 <grpo_nb.objective.kl_k3>` estimate.\n````'
    assert source.source == code.split('\n', 1)[1] and not source.metadata
    folded, = staged(tmp_path, mk_cell(code), record=True)
    assert folded.metadata['tags'] == ['hide-input']

def test_outputs_lose_repeated_styles_and_dead_controls(tmp_path):
    show = lambda **data: dict(output_type='display_data', metadata={}, data={k.replace('_', '/', 1):v for k,v in data.items()})
    table, control = mk_cell('t'), mk_cell('w')
    table.outputs = [show(text_html='<style scoped>\n.x {}\n</style>\n<table><td>zero-shot</td></table>')]
    control.outputs = [show(text_plain='HBox(...)') | dict(data={'text/plain':'HBox(...)', docs.VIEW:dict(model_id='gone')})]
    table, control = staged(tmp_path, table, control)
    assert ''.join(table.outputs[0].data['text/html']) == '<table><td class="short">zero-shot</td></table>'
    assert docs.VIEW not in control.outputs[0].data and 'JupyterLab' in ''.join(control.outputs[0].data['text/markdown'])

def test_a_new_page_finds_its_place_and_a_write_up_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(docs, 'SITE', tmp_path)
    docs.stage_index({ROOT/f'nbs/{n}.ipynb':(n.upper(), 'Promise.') for n in ('00_prompts', '31_writeup', '77_other')})
    head, *_, tail = read_nb(tmp_path/'index.ipynb').cells
    assert '[31_WRITEUP](/writeup.ipynb)' in head.source
    for group,page in (('Start here', 'writeup'), ('Building blocks', 'prompts'), ('More', 'other')): assert f':caption: {group}\n\n{page}\n```' in tail.source

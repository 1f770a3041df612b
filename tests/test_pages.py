"Every page runs from top to bottom, each in a process of its own: a fork of this one, which has the slow imports behind it."
import multiprocessing, os, re, shutil, sys
import matplotlib.pyplot as plt, pytest, torch
from matplotlib.backend_bases import FigureCanvasBase
import grpo_nb.eval, grpo_nb.kernels, grpo_nb.memory  # torch, transformers, statsmodels and the like
from execnb.nbio import mk_cell, new_nb, write_nb
from nbdev.config import get_config
from nbdev.test import test_nb as run_page
from common import EXPERIMENTS, PAGES, ROOT, names
from grpo_nb.models import load_model, load_tokenizer
from grpo_nb.passes import Compiled, why_not_compiled
from grpo_nb.rollouts import generate

def unlabelled(figure):
    "Axes of a drawn figure that show numbers and do not say of what."
    number = lambda tick: tick.get_visible() and re.fullmatch(r'[−+-]?[\d.,]+%?|\$.*\$', tick.get_text())
    named = dict(x=figure.get_supxlabel(), y=figure.get_supylabel())
    return [f'{k} axis of {ax.get_title() or ax.get_title("left") or ax.get_ylabel() or "a figure"!r}' for ax in figure.axes if ax.axison and ax.has_data()
            for k,axis in (('x', ax.xaxis), ('y', ax.yaxis)) if any(map(number, axis.get_ticklabels())) and not (axis.get_label_text() or named[k])]

def watch_figures(found):
    "From now on, what `unlabelled` says of each figure that is shown or saved is added to `found`."
    draw = FigureCanvasBase.print_figure
    def watched(self, *args, **kwargs):
        drawn = draw(self, *args, **kwargs)
        found.extend(unlabelled(self.figure))
        return drawn
    FigureCanvasBase.print_figure = watched

def forked(page, outputs, log, env):
    "Run a page as `nbdev_test` does and say by the exit code whether it passed, with all its figures labelled."
    sys.stdout = sys.stderr = open(log, 'a', buffering=1)  # pytest has put its own in their places
    for fd in (1, 2): os.dup2(sys.stdout.fileno(), fd)
    os.environ.update(env, GRPO_OUTPUTS=str(outputs))
    grpo_nb.kernels.built.cache_clear()
    watch_figures(found := [])
    passed, _ = run_page(page, skip_flags=get_config().tst_flags.split(), basepath=ROOT)
    if found: print(f'{page.name} has figures without labels: {", ".join(dict.fromkeys(found))}')
    sys.stdout.flush()
    os._exit(not passed or bool(found))

def run_alone(page, folder, **env):
    "Exit code and log of a page that has a process of its own."
    child = multiprocessing.get_context('fork').Process(target=forked, args=(page, folder, folder/'log', env))
    child.start(); child.join(timeout=600)
    if child.is_alive(): child.kill()
    return child.exitcode, (folder/'log').read_text()[-4000:]

# Pages with parameters run under papermill, which executes the same cells and more; the write-up's figures are looked at here
@pytest.mark.parametrize('page', pages := [p for p in PAGES if p.stem not in EXPERIMENTS or p.stem == '31_writeup'], ids=names(pages))
def test_page_runs(page, tmp_path):
    code, log = run_alone(page, tmp_path)
    assert code == 0, log

@pytest.mark.parametrize('labels,passes', [("xlabel='step', ylabel='nats per token'", True), ("xlabel='step'", False)])
def test_figures_without_labels_are_noticed(labels, passes, tmp_path):
    shown = new_nb([mk_cell('import matplotlib.pyplot as plt'), mk_cell(f'fig,ax = plt.subplots()\nax.plot([1, 2])\nax.set({labels})\nfig')])
    write_nb(shown, page := tmp_path/'page.ipynb')
    code, log = run_alone(page, tmp_path)
    assert (code == 0) == passes and ('y axis' in log) != passes, log

COMPILED = '04_decoder_kernels', '04_decoder_loops', '04_decoder_passes', '04_engine_compiled', '04_graph', '04_rollouts', '05_packing', '10_step'
@pytest.mark.parametrize('page', pages := [p for p in PAGES if p.stem in COMPILED], ids=names(pages))
def test_page_runs_without_a_compiler(page, tmp_path):
    code, log = run_alone(page, tmp_path, CC=str(tmp_path/'none'))
    assert code == 0, log

def compiled():
    "Exit with 0 if the shipped model samples by loops in C and keeps what they computed."
    torch.set_num_threads(1)
    model, passed = load_model('small', device='cpu'), []
    generate(model, load_tokenizer('small'), ['1'], n=2, max_new_tokens=4, passed=passed)
    os._exit(why_not_compiled(model) != '' or not passed[0].holds(Compiled(model)))

@pytest.mark.skipif(not shutil.which('cc'), reason='there is no C compiler')
def test_compiler_is_used():
    child = multiprocessing.get_context('fork').Process(target=compiled)  # Torch's threads here would not survive later forks
    child.start(); child.join()
    assert child.exitcode == 0

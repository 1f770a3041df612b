"Every page runs from top to bottom, each in a process of its own: a fork of this one, which has the slow imports behind it."
import multiprocessing, os, sys
import matplotlib.pyplot, pytest
import grpo_nb.eval, grpo_nb.memory  # torch, transformers, statsmodels and the like
from nbdev.config import get_config
from nbdev.test import test_nb as run_page
from common import EXPERIMENTS, PAGES, ROOT, names

def forked(page, outputs, log):
    "Run a page as `nbdev_test` does and say by the exit code whether it passed."
    sys.stdout = sys.stderr = open(log, 'a', buffering=1)  # pytest has put its own in their places
    for fd in (1, 2): os.dup2(sys.stdout.fileno(), fd)
    os.environ['GRPO_OUTPUTS'] = str(outputs)
    passed, _ = run_page(page, skip_flags=get_config().tst_flags.split(), basepath=ROOT)
    sys.stdout.flush()
    os._exit(not passed)

# Pages with parameters run under papermill, which executes the same cells and more
@pytest.mark.parametrize('page', pages := [p for p in PAGES if p.stem not in EXPERIMENTS], ids=names(pages))
def test_page_runs(page, tmp_path):
    child = multiprocessing.get_context('fork').Process(target=forked, args=(page, tmp_path, tmp_path/'log'))
    child.start(); child.join(timeout=600)
    if child.is_alive(): child.kill()
    assert child.exitcode == 0, (tmp_path/'log').read_text()[-4000:]

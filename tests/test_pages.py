"Every page runs from top to bottom, each in a process of its own."
import pytest
from common import PAGES, names, sh

@pytest.mark.parametrize('page', PAGES, ids=names(PAGES))
def test_page_runs(page, tmp_path):
    done = sh('nbdev_test', '--path', page, '--n_workers', 0, GRPO_OUTPUTS=str(tmp_path))
    assert done.returncode == 0, done.stdout[-4000:]

"What a user installs: the wheel alone, in a folder that knows nothing of the repository."
import shutil, sys, zipfile
import pytest
from common import ROOT, sh

pytestmark = pytest.mark.xdist_group('wheel')

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "The wheel of the files as they are; built from a copy, so that no build folder is left behind."
    source, dist = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('dist')
    for f in ('pyproject.toml', 'README.md', 'LICENSE'): shutil.copy(ROOT/f, source)
    shutil.copytree(ROOT/'grpo_nb', source/'grpo_nb', ignore=shutil.ignore_patterns('__pycache__'))
    done = sh(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '-w', dist, source, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    return next(dist.glob('grpo_nb-*.whl'))

def test_wheel_holds_package_small_model_and_commands(wheel):
    files = zipfile.ZipFile(wheel)
    held = files.namelist()
    for p in (ROOT/'grpo_nb').rglob('*'):
        if p.is_file() and '__pycache__' not in p.parts: assert str(p.relative_to(ROOT)) in held
    entry = files.read(next(f for f in held if f.endswith('entry_points.txt'))).decode()
    assert 'grpo-ask = grpo_nb.inference:main' in entry and 'grpo_nb = grpo_nb._modidx:d' in entry
    assert sum(f.file_size for f in files.filelist if f.filename.endswith('.safetensors')) <= 6e6

def test_wheel_imports_and_loads_small_model(wheel, tmp_path):
    site, elsewhere = tmp_path/'site', tmp_path/'elsewhere'
    elsewhere.mkdir()
    done = sh(sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', site, wheel)
    assert done.returncode == 0, done.stdout[-3000:]
    code = '''
import sys, pkgutil, importlib, grpo_nb
assert grpo_nb.__file__.startswith(sys.argv[1]), grpo_nb.__file__
for m in pkgutil.iter_modules(grpo_nb.__path__): importlib.import_module(f'grpo_nb.{m.name}')
from grpo_nb.models import load_model, load_tokenizer
ids = load_tokenizer('small')('Using the numbers', return_tensors='pt').input_ids
assert load_model('small', device='cpu')(ids).logits.isfinite().all()'''
    done = sh(sys.executable, '-c', code, site, cwd=elsewhere, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout[-3000:]

"The repository around the pages: one truth for each thing, and pages that keep to their limits."
import configparser, filecmp, re, shutil, subprocess, sys
import pytest
from common import NUMBERED, PAGES, ROOT, cells, names, sh
try: import tomllib
except ImportError: import tomli as tomllib

def test_settings_and_pyproject_agree():
    nbdev = configparser.ConfigParser()
    nbdev.read(ROOT/'settings.ini')
    ini, toml = nbdev['DEFAULT'], tomllib.loads((ROOT/'pyproject.toml').read_text())
    project = toml['project']
    from grpo_nb import __version__
    assert ini['lib_name'] == project['name']
    assert ini['version'] == __version__ and toml['tool']['setuptools']['dynamic']['version']['attr'] == 'grpo_nb.__version__'
    assert f">={ini['min_python']}" == project['requires-python']
    assert ini['description'] == project['description']
    assert sorted(ini['requirements'].split()) == sorted(project['dependencies'])
    assert sorted(ini['dev_requirements'].split()) == sorted(project['optional-dependencies']['dev'])

def test_every_requirement_has_an_exact_version():
    flat = lambda s: re.split(r'[<>=\s]', s)[0].lower().replace('_', '-')
    project = tomllib.loads((ROOT/'pyproject.toml').read_text())['project']
    extras = project['optional-dependencies']
    wanted = project['dependencies'] + [r for e,rs in extras.items() if e not in ('vllm', 'env') for r in rs]
    pinned = {flat(l) for l in (ROOT/'constraints.txt').read_text().splitlines() if '==' in l}
    assert not {flat(r) for r in wanted} - pinned

def test_export_and_clean_change_nothing(tmp_path):
    for f in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/f, tmp_path)
    for d in ('nbs', 'grpo_nb'): shutil.copytree(ROOT/d, tmp_path/d, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for command in ('nbdev_export', 'nbdev_clean'):
        done = sh(command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
    made = [p for d in ('nbs', 'grpo_nb') for p in (tmp_path/d).rglob('*') if p.is_file() and '__pycache__' not in p.parts]
    changed = [str(p.relative_to(tmp_path)) for p in made
               if not (ROOT/p.relative_to(tmp_path)).exists() or not filecmp.cmp(p, ROOT/p.relative_to(tmp_path), shallow=False)]
    assert not changed, f'run `make export clean` and commit: {changed}'

def test_readme_is_the_index_page():
    done = sh(sys.executable, 'tools/readme.py', '--check')
    assert done.returncode == 0, done.stdout

@pytest.mark.parametrize('page', PAGES, ids=names(PAGES))
def test_page_keeps_to_its_limits(page):
    sources, code = cells(page), cells(page, 'code')
    assert len(sources) <= 80, f'{len(sources)} cells'
    settings = re.compile(r'run_name: str = ')  # the parameters cell is a table of settings, one a line
    assert (longest := max(len(c.splitlines()) for c in code + [''] if not settings.match(c))) <= 40, f'a cell of {longest} lines'
    assert not [c for c in code if 'nbdev_export()' in c], 'papermill would run nbdev_export()'
    assert sources[0].startswith(('# ', '---')) and '\n> ' in sources[0], 'a page opens with its title and promise'

def imports(page):
    "Names of our modules that a page imports."
    found = re.findall(r'^\s*(?:from\s+grpo_nb\.(\w+)|import\s+grpo_nb\.(\w+)|from\s+grpo_nb\s+import\s+([\w, ]+))', '\n'.join(cells(page, 'code')), re.M)
    return {n.split(' as ')[0].strip() for groups in found for n in ','.join(groups).split(',') if n.strip()}

def test_pages_import_only_earlier_pages():
    module = {p:re.search(r'#\|\s*default_exp\s+(\w+)', '\n'.join(cells(p, 'code'))) for p in NUMBERED}
    order = {m[1]:i for i,(p,m) in enumerate(module.items()) if m}
    late = [f'{p.stem} imports {n}' for i,p in enumerate(NUMBERED) for n in imports(p) if n in order and order[n] > i]
    unknown = [f'{p.stem} imports {n}' for p in NUMBERED for n in imports(p) if n not in order and not n.startswith('_')]
    assert not late + unknown

def test_repository_speaks_only_of_itself():
    homes = ['/home/', '/Users/', '/root/'] + [f'{ROOT.parent}/'] * (ROOT.parent != ROOT.parent.parent)
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode: pytest.skip('not a git checkout')
    paths = [ROOT/f for f in listed.stdout.split('\0') if f and f != 'tests/test_repository.py']
    text = {p:p.read_text(encoding='utf-8', errors='ignore') for p in paths if p.is_file() and p.suffix not in ('.safetensors', '.png')}
    assert not [f'{p.relative_to(ROOT)}: {h}' for p,s in text.items() for h in homes if h in s]

@pytest.mark.parametrize('page', PAGES, ids=names(PAGES))
def test_links_open_in_jupyterlab(page):
    links = [l for s in cells(page, 'markdown') for l in re.findall(r'\]\(([^):]+)\)', s)]
    assert not [l for l in links if not l.startswith('#') and not (page.parent/l.split('#')[0]).exists()]

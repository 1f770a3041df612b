"What the tests share: where things are, how a page is read, how a command is run."
import json, os, re, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not p.name.startswith(('.', '_')))
NUMBERED = [p for p in PAGES if re.match(r'\d\d_', p.name)]
EXPERIMENTS = {p.stem:p for p in PAGES if p.stem in ('10_training', '11_memory', '12_small_model', '13_planning', '20_eval', '21_inference', '22_report', '23_sharing', '29_corrections', '30_study', '31_writeup')}
names = lambda pages: [p.stem for p in pages]

def cells(page, kind=None):
    "Sources of a page's cells."
    found = json.loads(page.read_text(encoding='utf-8'))['cells']
    return [''.join(c['source']) for c in found if kind in (None, c['cell_type'])]

def sh(*args, timeout=300, cwd=ROOT, **env):
    "Run a command of this interpreter's environment; its text output comes with it."
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run([str(a) for a in args], cwd=cwd, env={**os.environ, 'PATH':path, **env}, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

"""The views of `grpo_nb.explorer` in a real JupyterLab: `make test-ui`, not part of `make test`.

Starts JupyterLab on loopback with settings of its own, a training run beside it, and opens a notebook in Debian's chromium.
The session may talk to nobody else, and nobody may complain: not the page, not the kernel, not the server. `UI_SHOTS=folder make
test-ui` keeps pictures of every view, light and dark."""
import json, os, re, signal, socket, subprocess, sys, time
from collections import namedtuple
from pathlib import Path
import nbformat, psutil, pytest
from big import big_run
from browser import browser, open_tab
from common import ROOT
from grpo_nb.archive import Archive
from grpo_nb.records import read_rows
from grpo_nb.rewards import FAILURES
from grpo_nb.runs import Run

CELLS = ['from grpo_nb.explorer import watch, completions, runs, playground', "watch('live')", "completions('old')", 'runs()', "playground('old')", "import time; time.sleep(8 if 'again' in globals() else 0); again = True"]
WATCH, COMPLETIONS, RUNS, PLAYGROUND, BUSY = 1, 2, 3, 4, 5
VIEWS = dict(watch=WATCH, completions=COMPLETIONS, runs=RUNS, playground=PLAYGROUND)
SMALL = dict(model_name='small', device='cpu', num_threads=1, val_batch_size=16)
LIVE = SMALL | dict(run_name='live', iterations=2000, report_problems=0, eval_every=20, log_every=5)
OLD = SMALL | dict(run_name='old', iterations=4, seed=1, report_problems=8, eval_every=2, log_every=2)
LAB = ['--no-browser', '--ip=127.0.0.1', '--allow-root', '--ServerApp.port_retries=0', '--ServerApp.terminals_enabled=False',
       '--LabApp.expose_app_in_browser=True', '--LabApp.news_url=None', '--LabApp.extension_manager=readonly']
SETTINGS = {'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True)}
began = time.time()

def say(*what): print(f'{time.time() - began:4.0f} s ', *what, flush=True)

# JupyterLab and the runs

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def alive(url):
    "Does a server answer there?"
    host, port = re.search(r'//(.*):(\d+)', url).groups()
    with socket.socket() as s: return s.connect_ex((host, int(port))) == 0

def end(p):
    "Stop a process and all that it has started, kernels in sessions of their own included."
    try: family = [*psutil.Process(p.pid).children(recursive=True), psutil.Process(p.pid)]
    except psutil.NoSuchProcess: return p.wait()
    p.terminate()
    try: p.wait(5)
    except subprocess.TimeoutExpired: pass
    for f in family:
        if f.is_running(): f.kill()
    p.wait()

Place = namedtuple('Place', 'home root outputs url live log')

@pytest.fixture(scope='session')
def place(browser, tmp_path_factory):
    "A lab, a finished run and one in progress; all stopped again whatever happens."
    home, port, started = tmp_path_factory.mktemp('lab'), free_port(), []
    root, outputs = home/'root', home/'root/outputs'
    (outputs/'records').mkdir(parents=True)
    folders = {f'JUPYTER{k}_DIR':str(home/k.lower()) for k in ('LAB_SETTINGS', 'LAB_WORKSPACES', '_CONFIG', '_DATA', '_RUNTIME')}
    env = {**os.environ, **folders, 'IPYTHONDIR':str(home/'ipython'), 'GRPO_OUTPUTS':str(outputs), 'OMP_NUM_THREADS':'1',
           'PYTHONPATH':os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))}
    for name,values in SETTINGS.items():
        f = home/f'lab_settings/@jupyterlab/{name}.jupyterlab-settings'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(json.dumps(values))
    def start(name, *command):
        out = open(home/f'{name}.log', 'w')
        started.append(subprocess.Popen([sys.executable, *map(str, command)], cwd=root, env=env, stdout=out, stderr=out, start_new_session=True))
        return started[-1]
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit('stopped by SIGTERM'))  # so that what follows `yield` is done even then
    try:
        lab = start('lab', '-m', 'jupyter', 'lab', *LAB, f'--port={port}', f'--ServerApp.root_dir={root}', '--IdentityProvider.token=t')
        live = start('live', '-m', 'papermill', ROOT/'nbs/10_training.ipynb', outputs/'records/live.ipynb', *(a for k,v in LIVE.items() for a in ('-p', k, v)))
        old = start('old', '-c', f'from grpo_nb.training import GRPOConfig, train; train(GRPOConfig.for_model(**{OLD}))')
        here = Place(home, root, outputs, f'http://127.0.0.1:{port}/', live, home/'lab.log')
        until(lambda: alive(here.url) or lab.poll() is not None, 'JupyterLab', 60)
        assert lab.poll() is None, here.log.read_text()[-3000:]
        say('JupyterLab answers')
        assert old.wait(120) == 0, (home/'old.log').read_text()[-3000:]
        until(lambda: steps(here) or live.poll() is not None, 'the first step', 60)
        assert live.poll() is None, (home/'live.log').read_text()[-3000:]
        say('one run has ended, another has begun')
        yield here
    finally:
        for p in reversed(started): end(p)
        say('all that was started is stopped')

def steps(place): return len(Run('live', place.outputs).metrics) if (place.outputs/'live/manifest.json').exists() else 0

# The notebook in the browser

def until(true, what, seconds=30, tab=None):
    "Wait until `true()` is, and return it; the tab must be given where one is open, for its requests are answered meanwhile."
    end = time.time() + seconds
    while time.time() < end:
        if (got := true()): return got
        tab.wait_for_timeout(100) if tab else time.sleep(.1)
    raise TimeoutError(f'{what}: not within {seconds} s')

READY = """async () => {
    const app = window.jupyterapp; await app.restored
    while (!app.shell.currentWidget?.context) await new Promise(r => setTimeout(r, 50))
    const w = app.shell.currentWidget; await w.context.ready; await w.sessionContext.ready
    window.complaints = []
    w.sessionContext.iopubMessage.connect((_, m) => { if (m.header.msg_type == 'error') window.complaints.push(m.content.traceback.join('\\n'))
        if (m.header.msg_type == 'stream' && m.content.name == 'stderr') window.complaints.push(m.content.text) }) }"""
RUN = "async i => { const w = window.jupyterapp.shell.currentWidget.content; w.activeCellIndex = i; w.deselectAll(); await window.jupyterapp.commands.execute('notebook:run-cell') }"

# JupyterLab asks each kernel for its widgets. One that has not yet imported ipywidgets says that it knows of no such comm, which is no fault
ASKS, asked_for = re.compile(rb'"comm_id":"([^"]+)","target_name":"jupyter\.widget\.control"'), set()

def said(tab, faults):
    "What page and kernel have complained of since it was asked."
    harmless = {'', 'No such comm target registered: jupyter.widget.control', *(f'No such comm: {c.decode()}' for c in asked_for)}
    lines = re.sub(r'\x1b\[[\d;]*m', '', '\n'.join([*faults, *tab.evaluate('window.complaints.splice(0)')])).splitlines()
    faults.clear()
    return '\n'.join(l for l in lines if l not in harmless)

def open_notebook(browser, place, name, cells, faults):
    "A tab with a new notebook and its kernel."
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')))
    nbformat.write(nb, place.root/f'{name}.ipynb')
    tab = open_tab(browser, place.url, faults, viewport=dict(width=1280, height=1000))
    tab.on('websocket', lambda w: w.on('framesent', lambda frame: asked_for.update(ASKS.findall(frame if isinstance(frame, bytes) else frame.encode()))))
    tab.goto(f'{place.url}lab/tree/{name}.ipynb?reset&token=t')
    tab.wait_for_function('window.jupyterapp', timeout=60000)
    tab.evaluate(READY)
    return tab

def run_all(tab):
    "Run every cell; what the first one says that fails is raised."
    if not tab.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')"): pytest.fail(said(tab, []), pytrace=False)
def run_cell(tab, i): tab.evaluate(RUN, i)
def cell_output(tab, i): return tab.locator('.jp-Notebook .jp-Cell').nth(i).locator('.jp-Cell-outputArea')

def view(tab, name):
    "A view that is on the page, scrolled to."
    root = cell_output(tab, VIEWS[name]).locator(f'.grpo-{name}')
    root.scroll_into_view_if_needed(timeout=30000)
    return root

def wait_text(locator, pattern, seconds=20):
    "Wait for a text, and return what the pattern matched."
    return until(lambda: locator.count() and re.search(pattern, locator.inner_text()), f'{pattern!r} in {locator}', seconds, locator.page)

def press(slider, key):
    "Move a slider by the keyboard."
    slider.locator('.noUi-handle').focus()
    slider.locator('.noUi-handle').press(key)

def options(box): return [o.replace('\xa0', ' ') for o in box.locator('option').all_text_contents()]  # ipywidgets writes every space so

def choose(box, *names):
    "Choose in a Dropdown or SelectMultiple the first option that has each name as a word."
    there = options(box)
    box.locator('select').select_option(index=[next(i for i,o in enumerate(there) if re.search(rf'(?<!\w){re.escape(n)}(?!\w)', o)) for n in names])

def write(box, text):
    "Put a text into a Text and press Enter."
    box.locator('input').fill(text)
    box.locator('input').press('Enter')

def theme(tab, name):
    "'Light' or 'Dark'."
    tab.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme:name})", f'JupyterLab {name}')
    tab.wait_for_function('light => document.body.dataset.jpThemeLight === light', arg=str(name == 'Light').lower())
    tab.wait_for_function("!document.getElementById('jupyterlab-splash')")

def shoot(root, name):
    "A picture of a view, if somebody wants pictures."
    if not (folder := os.environ.get('UI_SHOTS')): return
    small, tab = root.page.viewport_size, root.page
    tab.set_viewport_size(dict(width=small['width'], height=int(root.bounding_box()['height']) + 300))  # JupyterLab scrolls inside of its window
    tab.wait_for_timeout(300)
    root.screenshot(path=Path(folder)/f'{name}.png')
    tab.set_viewport_size(small)

@pytest.fixture(scope='session')
def complaints(): return []

@pytest.fixture(scope='session')
def tab(browser, place, complaints):
    "The notebook, all its cells run."
    tab = open_notebook(browser, place, 'views', CELLS, complaints)
    say('the notebook is open')
    run_all(tab)
    say('its cells have run')
    yield tab
    tab.context.close()

@pytest.fixture(autouse=True)
def quiet(tab, place, complaints):
    "Nobody complains during a test."
    yield
    assert not (heard := said(tab, complaints)), heard
    assert 'Traceback' not in (log := place.log.read_text()), log[-3000:]

# What the completions are: cards are compared by letters, figures and operators

bare = lambda text: re.sub(r'</?(?:think|answer)>|[^\w+*=()-]', '', text)
def rows_of(place, run): return read_rows(place.outputs/run/'completions.jsonl')
MEANT = '.grpo-card:not(.other)'  # The rest of a group is shown too, but dimmed
def cards_of(root): return [bare(t) for t in root.locator(MEANT).all_inner_texts()]
def told_by(cards, rows):
    "Are there cards, and does each show one of these rows?"
    texts = {bare(r['completion']) for r in rows}
    return bool(cards) and all(any(t in c for t in texts) for c in cards)
def counted(root): return root.locator('.grpo-count').inner_text().split(' · ')[1]  # how many are meant, wherever we are

def becomes(tab, root, rows, what):
    "Wait until the view shows cards of these rows only."
    until(lambda: told_by(cards_of(root), rows), what, 60, tab)

# watch

def test_watch_follows_a_run(tab, place):
    root = view(tab, 'watch')
    first = int(wait_text(root.locator('.grpo-state'), r'running\D+(\d+) of 2000')[1])
    until(lambda: int(re.search(r'step (\d+)', root.locator('.grpo-state').inner_text())[1]) > first + 2, 'a later step', 60, tab)
    assert root.locator('svg path, svg polyline').count()
    until(lambda: told_by(cards_of(root), [r for r in rows_of(place, 'live') if r['step'] > first]), 'its newest completions', 60, tab)
    shoot(root, 'watch-running')

def test_watch_stops_a_run(tab, place):
    root = view(tab, 'watch')
    root.get_by_role('button', name='Stop and save').click()
    until(lambda: place.live.poll() is not None, 'the end of the run', 60, tab)
    assert place.live.returncode == 0, (place.home/'live.log').read_text()[-3000:]
    run = Run('live', place.outputs)
    assert run.state == 'preempted' and run.manifest['step'] == len(run.metrics) < 2000
    wait_text(root.locator('.grpo-state'), rf"to be continued\D+{run.manifest['step']}\D")

# completions

def test_completions_move_by_step(tab, place):
    root, rows = view(tab, 'completions'), rows_of(place, 'old')
    press(root.locator('.grpo-step'), 'Home')
    at = lambda: int(wait_text(root.locator('.grpo-step .widget-readout'), r'\d+')[0])
    becomes(tab, root, [r for r in rows if r['step'] == at()], 'the completions of a step')
    for key,move in (('ArrowRight', 1), ('ArrowRight', 1), ('ArrowLeft', -1)):
        before = at()
        press(root.locator('.grpo-step'), key)
        until(lambda: at() == before + move, 'another step', 5, tab)
        becomes(tab, root, [r for r in rows if r['step'] == at()], f'the completions of step {at()}')

def test_completions_of_a_problem(tab, place):
    root, rows = view(tab, 'completions'), rows_of(place, 'old')
    step = int(wait_text(root.locator('.grpo-step .widget-readout'), r'\d+')[0])
    there = dict.fromkeys((*r['nums'], r['target']) for r in rows if r['step'] == step)
    for puzzle in (list(there)[-1], list(there)[0]):
        choose_problem(root.locator('.grpo-problem'), puzzle)
        becomes(tab, root, [r for r in rows if (*r['nums'], r['target']) == puzzle], f'the completions of {puzzle}')

def choose_problem(box, puzzle):
    "The option that begins with these figures."
    box.locator('select').select_option(index=next(i for i,o in enumerate(options(box)) if tuple(int(n) for n in re.findall(r'\d+', o))[:len(puzzle)] == puzzle))

def test_completions_filter(tab, place):
    root, rows = view(tab, 'completions'), rows_of(place, 'old')
    seen = [counted(root)]
    for kind in ('right', 'wrong value'):
        choose(root.locator('.grpo-filter'), kind)
        becomes(tab, root, [r for r in rows if kind in (FAILURES[r['failure']], 'right' if r['correct'] else '')], f'completions that are {kind}')
        seen.append(counted(root))
    assert len(set(seen)) == 3, seen
    choose(root.locator('.grpo-filter'), 'all')
    until(lambda: counted(root) == seen[0], 'all completions', 5, tab)

def test_completions_search(tab, place):
    root, rows = view(tab, 'completions'), rows_of(place, 'old')
    step = int(wait_text(root.locator('.grpo-step .widget-readout'), r'\d+')[0])
    before, text = counted(root), next(r['expression'] for r in rows if r['step'] == step and r['expression'] and len(r['expression']) > 6)
    write(root.locator('.grpo-search'), text)
    becomes(tab, root, [r for r in rows if text in r['completion']], f'completions with {text!r}')
    assert counted(root) != before
    write(root.locator('.grpo-search'), '')
    until(lambda: counted(root) == before, 'all completions', 5, tab)

def test_completions_as_a_list_and_suspicious_ones(tab, place):
    root, rows = view(tab, 'completions'), [r for r in rows_of(place, 'old') if r['correct']]
    root.get_by_role('button', name='list').click()
    choose(root.locator('.grpo-filter'), 'right')
    becomes(tab, root, rows, 'right completions of all steps')
    assert len(cards_of(root)) == min(len(rows), 24)
    archive = Archive(Run('old', place.outputs))
    odd = archive.tables['training'][archive.accepts('training') != '']
    choose(root.locator('.grpo-filter'), 'suspicious accepts')
    until(lambda: counted(root).startswith(f'{len(odd)} of '), 'as many of them as there are', 60, tab)
    until(lambda: not cards_of(root) if odd.empty else told_by(cards_of(root), odd.to_dict('records')), 'these and no others', 60, tab)
    choose(root.locator('.grpo-filter'), 'all')
    root.get_by_role('button', name='group').click()
    becomes(tab, root, rows_of(place, 'old'), 'a group')

def test_completions_beside_shaded_and_copied(tab, place):
    root = view(tab, 'completions')
    choose(root.get_by_label('beside').locator('..'), 'old')
    wait_text(root, r'old, step \d+: \d+ of \d+ right')
    choose(root.get_by_label('beside').locator('..'), 'live')
    case = json.loads(root.locator('textarea').first.input_value())
    asked = any(sorted(r['nums']) == sorted(case['nums']) and r['target'] == case['target'] for r in rows_of(place, 'live'))
    wait_text(root, r'live, step \d+: \d+ of \d+ right' if asked else 'live was not asked this puzzle')
    choose(root.get_by_label('beside').locator('..'), 'nothing')
    root.get_by_role('button', name='shade by log-ratio').click()
    until(lambda: root.locator('.grpo-text span[style*=background]').count(), 'shades', 30, tab)
    root.get_by_text('as a test case').click()
    case = json.loads(root.get_by_label('test case').input_value())
    assert case['completion'] in {r['completion'] for r in rows_of(place, 'old')} and case['expect'] in ('correct', 'wrong')
    shoot(root, 'completions-shaded')
    root.get_by_role('button', name='shade by log-ratio').click()
    until(lambda: not root.locator('.grpo-text span[style*=background]').count(), 'no shades', 60, tab)

def test_completions_answer_while_a_cell_runs(tab, place):
    prompt = tab.locator('.jp-Notebook .jp-Cell').nth(BUSY).locator('.jp-InputPrompt')
    busy = lambda: '*' in prompt.inner_text()
    tab.evaluate(f'i => {{ ({RUN})(i) }}', BUSY)
    until(busy, 'a cell at work', 60, tab)
    root, rows = view(tab, 'completions'), rows_of(place, 'old')
    before = int(wait_text(root.locator('.grpo-step .widget-readout'), r'\d+')[0])
    after = before + 1 if before < 4 else before - 1
    press(root.locator('.grpo-step'), 'ArrowRight' if after > before else 'ArrowLeft')
    until(lambda: told_by(cards_of(root), [r for r in rows if r['step'] == after]), 'the next step', 6, tab)
    assert busy(), 'the cell had ended before'
    until(lambda: not busy(), 'the end of the cell', 20, tab)

# runs

def test_runs_are_compared(tab):
    root = view(tab, 'runs')
    for name in ('old', 'live'): wait_text(root.locator('table.grpo-table'), rf'\b{name}\b')
    choose(root.locator('.grpo-pick'), 'old', 'live')
    for said in (r'iterations\s+2000\s+4|iterations\s+4\s+2000', r'b - a, points', r'difference shown|is better|is worse'): wait_text(root.locator('.grpo-comparison'), said)
    root.get_by_role('link', name='live.ipynb').click()
    tab.wait_for_function("window.jupyterapp.shell.currentWidget?.context?.path == 'outputs/records/live.ipynb'", timeout=20000)
    tab.evaluate("() => { const shell = window.jupyterapp.shell; for (const w of shell.widgets('main')) if (w.context?.path == 'views.ipynb') shell.activateById(w.id) }")
    tab.wait_for_function("window.jupyterapp.shell.currentWidget?.context?.path == 'views.ipynb'", timeout=20000)

# playground

def test_playground_answers_and_shows_probabilities(tab):
    root = view(tab, 'playground')
    root.get_by_role('button', name='Ask').click()
    wait_text(root.locator('.grpo-card').first, r'right|wrong|' + '|'.join(list(FAILURES.values())[1:]), 60)
    tokens = root.locator('.grpo-tokens button')
    tokens.first.wait_for()
    wait_text(root.locator('.grpo-next'), r'token 1 of')
    middle = tokens.count()//2
    tokens.nth(middle).click()
    wait_text(root.locator('.grpo-next'), rf'token {middle + 1} of {tokens.count()}\b')

# All of them

# Texts whose contrast to what is behind them is low (WCAG asks for 4.5), parts that are too wide, controls without a name beside them
HARD_TO_SEE = """root => {
    const part = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number)
    const light = c => part(c).slice(0, 3).map(v => v/255).map(v => v <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4).reduce((s, v, i) => s + v*[.2126, .7152, .0722][i], 0)
    const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor, p = part(c); if (p.length < 4 || p[3] > .5) return c } return 'rgb(255, 255, 255)' }
    const found = new Set()
    for (const e of root.querySelectorAll('*')) {
        if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.checkVisibility() || e.disabled || e.closest('style')) continue
        const s = getComputedStyle(e), [a, b] = [light(e.closest('svg') ? s.fill : s.color), light(behind(e))].sort()
        if ((b + .05)/(a + .05) < 3) found.add(`${e.tagName} ${e.className.baseVal ?? e.className}: ${e.textContent.trim().slice(0, 30)}`)
    }
    for (let e = root; (e = e.parentElement) && !e.matches('.jp-Notebook');)
        if (e.scrollWidth > e.clientWidth + 1) found.add(`${e.scrollWidth - e.clientWidth} pixels too wide for ${e.className}`)
    for (const e of root.querySelectorAll('input, select, textarea, button, [role=slider]'))
        if (!(e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.title || e.textContent.trim() || e.closest('[title]') || e.closest('.widget-slider')?.querySelector('label') || e.parentElement.querySelector('label'))) found.add(`${e.outerHTML.slice(0, 80)} has no name`)
    return [...found] }"""

@pytest.mark.parametrize('colours', ['Dark', 'Light'])
def test_views_can_be_read(tab, colours):
    theme(tab, colours)
    wrong = {}
    for name in VIEWS:
        wrong[name] = (root := view(tab, name)).evaluate(HARD_TO_SEE)
        shoot(root, f'{name}-{colours.lower()}')
    assert not any(wrong.values()), wrong

# How long it takes with many

CARDS = f"() => [...document.querySelectorAll('.grpo-completions {MEANT}')].map(e => e.innerText).join('|')"

def test_fifty_thousand_completions(browser, place):
    "Measured and printed; only what is shown is checked."
    t0 = time.time()
    rows = read_rows(big_run(outputs=place.outputs).dir/'completions.jsonl')
    say(f'{len(rows)} completions written in {time.time() - t0:.1f} s')
    tab = open_notebook(browser, place, 'big', [CELLS[0], "completions('big')"], faults := [])
    run_cell(tab, 0)
    root = cell_output(tab, 1).locator('.grpo-completions')
    readout = root.locator('.grpo-step .widget-readout')
    def timed(what, act, wanted):
        t0, before = time.perf_counter(), tab.evaluate(CARDS)
        act()
        tab.wait_for_function(f'before => {{ const now = ({CARDS})(); return now && now != before }}', arg=before, polling='raf', timeout=60000)
        say(f'{time.perf_counter() - t0:.2f} s {what}')
        becomes(tab, root, [r for r in rows if wanted(r)], what)
    timed('from running the cell to the first cards', lambda: tab.evaluate(f'i => {{ ({RUN})(i) }}', 1), lambda r: True)
    step = int(wait_text(readout, r'\d+')[0])
    move = 1 if step == 1 else -1
    timed('from a key to the next step', lambda: press(root.locator('.grpo-step'), 'ArrowRight' if move > 0 else 'ArrowLeft'), lambda r: r['step'] == step + move)
    timed('from choosing a filter to its cards', lambda: choose(root.locator('.grpo-filter'), 'right'), lambda r: r['correct'])
    here = ' '.join(cards_of(root))
    text = next(r['expression'] for r in rows if r['correct'] and bare(r['expression']) not in here)
    timed(f'from searching for {text!r} to its cards', lambda: write(root.locator('.grpo-search'), text), lambda r: r['correct'] and text in r['completion'])
    shoot(root, 'completions-many')
    heard = said(tab, faults)
    tab.context.close()
    assert not heard, heard

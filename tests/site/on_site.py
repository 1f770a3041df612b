"""Every page of the site in a real browser: `make test-site`, not part of `make test`.

Builds the site, or takes a built one (SITE=folder), serves it on loopback and opens it in Debian's chromium, which is
installed where it is missing and that can be done."""
import functools, http.server, os, re, subprocess, sys, threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
import pytest
from browser import browser, open_tab
from common import ROOT

STEMS = [re.sub(r'^\d+_', '', p.stem) for p in (ROOT/'nbs').glob('[0-9]*.ipynb')]
RECORDS = [p.relative_to(ROOT/'outputs/records').with_suffix('.html') for p in sorted((ROOT/'outputs/records').rglob('*.ipynb')) if '.new.' not in p.name and '.ipynb_checkpoints' not in p.parts]
MATHS = "Promise.resolve(window.MathJax?.startup?.promise).then(() => [document.querySelectorAll('.math').length, document.querySelectorAll('.math mjx-container').length])"
PICTURES = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
OVERFLOW = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'

@pytest.fixture(scope='session')
def site():
    "The built site."
    if given := os.environ.get('SITE'): return Path(given).resolve()
    done = subprocess.run([sys.executable, 'tools/docs.py'], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return ROOT/'_docs'

@pytest.fixture(scope='session')
def served(site):
    "Where it is served."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()

class Page(HTMLParser):
    "Links, sources and ids of a page."
    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.update(v for k,v in attrs.items() if k in ('id', 'name') and v)
        self.links += [attrs[k] for k in ('href', 'src') if attrs.get(k)]

@pytest.fixture(scope='session')
def html(site): return {p.relative_to(site).as_posix():Page(p) for p in sorted(site.rglob('*.html')) if '_static' not in p.parts}

def test_all_that_should_be_there_is(html):
    wanted = {'index.html', 'changelog.html', 'search.html', 'genindex.html', 'py-modindex.html', 'api/index.html', 'record/index.html'}
    wanted |= {f'{s}.html' for s in STEMS} | {f'record/{r.as_posix()}' for r in RECORDS}
    assert not (missing := wanted - set(html)), sorted(missing)
    unlinked = {f'{s}.html' for s in STEMS} - set(html['index.html'].links)
    assert not unlinked, sorted(unlinked)

def test_links_lead_somewhere(site, html):
    broken = set()
    for name,page in html.items():
        for link in page.links:
            if urlsplit(link).scheme or link.startswith('//'): continue
            target,fragment = urldefrag(urljoin(f'/{name}', link))
            target = unquote(urlsplit(target).path).lstrip('/')
            if target.endswith('/') or not target: target += 'index.html'
            if not (site/target).is_file(): broken.add(f'{name}: {link}')
            elif fragment and target in html and unquote(fragment) not in html[target].ids: broken.add(f'{name}: {link} (no such place)')
    assert not broken, '\n'.join(sorted(broken)[:20])

def test_pages_open_quietly_and_alone(html, served, browser):
    seen, faults, wrong = [], [], {}
    tab = open_tab(browser, served, faults, viewport=dict(width=1280, height=900))
    for name in html:
        faults.clear()
        tab.goto(served + name, wait_until='load')
        maths, drawn = tab.evaluate(MATHS)
        if maths != drawn: faults.append(f'{maths - drawn} of {maths} formulas not drawn')
        if errors := tab.locator('mjx-container [data-mml-node=merror]').count(): faults.append(f'{errors} formulas with errors')
        faults += [f'picture not shown: {p[:80]}' for p in tab.evaluate(PICTURES)]
        if (over := tab.evaluate(OVERFLOW)) > 0: faults.append(f'{over} pixels wider than the window')
        if faults: wrong[name] = list(faults)
        seen.append(maths)
    assert not wrong, '\n'.join(f'{name}: {fault}' for name,faults in wrong.items() for fault in faults)
    assert sum(seen) > 100, 'formulas on the pages'

@pytest.mark.parametrize('query,page', [('kl_k3', 'objective.html'), ('countdown', 'index.html')])
def test_search_finds(query, page, served, browser):
    faults = []
    tab = open_tab(browser, served, faults)
    tab.goto(served + f'search.html?q={query}')
    tab.wait_for_selector('#search-results li a', timeout=20000)
    found = tab.eval_on_selector_all('#search-results li a', 'links => links.map(a => a.href)')
    assert any(page in f for f in found), found
    assert not faults

@pytest.mark.parametrize('page', ['index.html', 'objective.html', f'record/{RECORDS[0].as_posix()}'])
def test_page_fits_a_telephone_in_the_dark(page, served, browser):
    faults = []
    tab = open_tab(browser, served, faults, color_scheme='dark', viewport=dict(width=400, height=800))
    tab.goto(served + page, wait_until='load')
    light = lambda where, what: sum(map(int, re.findall(r'\d+', tab.evaluate(f'getComputedStyle(document.querySelector({where!r})).{what}'))[:3]))/3
    assert tab.evaluate(OVERFLOW) <= 0
    assert light('body', 'backgroundColor') < 60 < 150 < light('.cell_output td', 'color')
    assert not faults

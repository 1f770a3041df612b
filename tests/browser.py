"Debian's chromium driven by playwright, for the tests that look at what is drawn."
import os, shutil, subprocess
import pytest

FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

def find_browser():
    "A chromium, installed if this is a root's Debian; a sentence where there is none."
    find = lambda: next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not find() and shutil.which('apt-get') and not os.geteuid():
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, 'DEBIAN_FRONTEND':'noninteractive'})
        for command in (['update'], ['install', '-y', '--no-install-recommends', 'chromium']): subprocess.run(['apt-get', '-qq', *command], **quiet)
    return find() or pytest.skip('no chromium here, and it cannot be installed: the pages were not opened')

@pytest.fixture(scope='session')
def browser():
    path = find_browser()
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        found = p.chromium.launch(executable_path=path, args=FLAGS)
        yield found
        found.close()

def open_tab(browser, served, faults, **options):
    "A tab that may talk to our server only, and writes down what it complains about."
    context = browser.new_context(**options)
    def guard(route):
        if route.request.url.startswith((served, 'data:', 'blob:')): return route.continue_()
        faults.append(f'asks for {route.request.url}')
        route.abort()
    context.route('**/*', guard)
    tab = context.new_page()
    tab.on('console', lambda m: m.type == 'error' and faults.append(f'console: {m.text}'))
    tab.on('pageerror', lambda e: faults.append(f'error: {e}'))
    tab.on('requestfailed', lambda r: faults.append(f'failed: {r.url}'))
    tab.on('response', lambda r: r.status >= 400 and faults.append(f'{r.status}: {r.url}'))
    tab.on('websocket', lambda w: w.url.startswith(served.replace('http', 'ws', 1)) or faults.append(f'asks for {w.url}'))
    return tab

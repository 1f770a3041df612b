def pytest_unconfigure(config):
    "The very last line is plain, for whoever reads only that."
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if hasattr(config, 'workerinput') or not reporter: return
    count = lambda *kinds: sum(len(reporter.stats.get(k, [])) for k in kinds)
    print(f"{count('passed')} passed, {count('failed', 'error')} failed")

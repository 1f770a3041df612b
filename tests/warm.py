"""Kernels that have the slow imports behind them.

`python warm.py serve ADDRESS` imports torch and the like once. `python warm.py kernel ADDRESS ...`, which Jupyter starts as its
kernel, asks there for a fork that becomes the kernel, passes signals on to it, and ends when and as it does.
"""
import json, os, select, signal, socket, sys

def kernel(address, *arguments):
    "Stand for a kernel that is somebody else's child."
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(dict(folder=os.getcwd(), env=dict(os.environ), arguments=arguments)).encode()], [0, 1, 2])
        pid = int(server.recv(64))
        for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda n, _: os.kill(pid, n))
        sys.exit(int(server.recv(64)))

def become(asked, fds):
    "In the fork: take over the streams, folder and environment of who asked, and be a kernel."
    os.setsid()
    for i,fd in enumerate(fds): os.dup2(fd, i)
    os.chdir(asked['folder'])
    os.environ.clear()
    os.environ.update({k:v for k,v in asked['env'].items() if k != 'JPY_PARENT_PID'})  # the server is the parent, and ends it
    sys.argv = ['ipykernel_launcher', *asked['arguments']]
    from ipykernel.kernelapp import launch_new_instance
    launch_new_instance()

def serve(address):
    "Fork a kernel for each that asks, until the process that started this one is gone."
    import ipywidgets, matplotlib.pyplot, pandas, scipy.stats, statsmodels.stats.api, torch, transformers.generation, transformers.models.qwen2.modeling_qwen2  # noqa: F401
    from ipykernel import ipkernel  # noqa: F401
    parent,kernels = os.getppid(),{}  # pid -> connection of who asked for it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    while os.getppid() == parent:
        for ready in select.select([listener, *kernels.values()], [], [], .05)[0]:
            if ready is not listener:  # who asked is gone
                for pid,asker in kernels.items():
                    if asker is ready: os.kill(pid, signal.SIGKILL)
                continue
            asker,_ = listener.accept()
            message,fds,*_ = socket.recv_fds(asker, 1 << 20, 3)
            if not (pid := os.fork()):
                for s in (listener, asker, *kernels.values()): s.close()
                become(json.loads(message), fds)
                os._exit(0)
            for fd in fds: os.close(fd)
            asker.send(str(pid).encode())
            kernels[pid] = asker
        while kernels and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            asker = kernels.pop(ended[0])
            try: asker.send(str(abs(os.waitstatus_to_exitcode(ended[1]))).encode())
            except OSError: pass  # gone too
            asker.close()
    for pid in kernels: os.kill(pid, signal.SIGKILL)

if __name__ == '__main__': dict(serve=serve, kernel=kernel)[sys.argv[1]](*sys.argv[2:])

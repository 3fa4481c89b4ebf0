import time, os, sys
from prefect import flow, task
@task
def one(x): return x
@flow
def ok(x: int = 1):
    one(x); return x
@flow
def need(x: int): return x
@flow
def slow(s: float = 60):
    time.sleep(s)
@flow
def exiting(): sys.exit(3)
@flow
def killed(): os.kill(os.getpid(), 9)
@flow
def termed():
    os.kill(os.getpid(), 15); time.sleep(3)
from pathlib import Path
from prefect.flow_runs import suspend_flow_run
@task
def flaky(x):
    p=Path("/tmp/tr/flag-"+x)
    if not p.exists():
        p.touch(); raise ValueError("first time")
@flow
def failing(key: str):
    one(1); flaky(key)
@flow
def suspending():
    one.submit(1).result(); flaky.submit("s"+str(__import__("prefect").runtime.flow_run.id)).wait()
    suspend_flow_run(timeout=300, key="a")
    one(2)

"""Trains with report_to against the real servers, on loopback, and reads back what they have. Optional; needs
`pip install mlflow trackio wandb` and a built dist/.

    python3 test/golden/check_servers.py

A run of four steps, then the same run resumed to six. MLflow (`mlflow server`) and trackio (`trackio.show`) are asked through their own
clients for every number, the settings and the state of the run, which must be those of metrics.jsonl. Then each is asked with a key that it
does not take, and one that is gone. W&B has no server on PyPI: its real client reports the same numbers to a recorder, and so does the run;
what is compared is the form of the requests. Whether W&B's own server takes them is not shown here. Exit code 1 at a difference.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef0123456789abcdef01234567"
FIELDS = {
    "loss": "loss",
    "learning_rate": "learningRate",
    "grad_norm": "gradNorm",
    "epoch": "epoch",
    "tokens_per_second": "tokensPerSecond",
    "peak_bytes": "peakBytes",
    "mean_token_accuracy": "meanTokenAccuracy",
}
EVAL_FIELDS = {"loss": "evalLoss", "perplexity": "evalPerplexity", "mean_token_accuracy": "evalMeanTokenAccuracy"}
bad = []


def check(what, found, wanted):
    print(f"{'ok      ' if found == wanted else 'DIFFERS '}{what}")
    if found != wanted:
        bad.append(what)
        print(f"  found  {found}\n  wanted {wanted}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(url, process):
    for _ in range(240):
        if process.poll() is not None:
            sys.exit(f"{url}: its server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"{url} does not answer")


def start(words, **env):
    return subprocess.Popen(words, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Recorder(BaseHTTPRequestHandler):
    """As much of W&B as its client asks for; the server keeps every request."""

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(body)
        except ValueError:
            return self.answer({})
        self.server.got.append((self.path, self.headers.get("authorization"), body))
        query = body.get("query", "")
        if "upsertBucket" in query:
            name = body["variables"]["name"]
            lines = sum(len(each) for each in histories(self.server.got, name))
            project = {"id": "p", "name": body["variables"]["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": name, "displayName": "first", "config": None, "project": project}
            return self.answer({"data": {"upsertBucket": {"bucket": {**bucket, "historyLineCount": lines}, "inserted": True}}})
        if "createRunFiles" in query:
            return self.answer({"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []}}})
        if "viewer" in query:
            viewer = {"id": "v", "entity": "me", "username": "me", "email": "m@e", "flags": "{}", "teams": {"edges": []}}
            return self.answer({"data": {"viewer": viewer}})
        if "bucket(" in query:
            return self.answer({"data": {"model": {"id": "m", "name": "p", "entity": {"id": "e", "name": "me"}, "bucket": None}}})
        self.answer({"data": {}})

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def histories(got, run):
    """The lines of each request of a run's file stream."""
    found = []
    for path, _, body in got:
        part = (body.get("files") or {}).get("wandb-history.jsonl") if f"/{run}/file_stream" in path else None
        if part:
            found.append([(part["offset"] + i, json.loads(line)) for i, line in enumerate(part["content"])])
    return found


def train(folder, *more, report_to, **env):
    words = ["node", str(ROOT / "dist/cli.js"), "train", "--model", str(folder / "model")]
    words += ["--train-file", str(folder / "rows.jsonl"), "--validation-rows", "4", "--output-dir", str(folder / "run")]
    words += ["--max-length", "64", "--per-device-train-batch-size", "1", "--threads", "1", "--compute-dtype", "float32"]
    words += ["--run-name", "first", "--save-steps", "2", "--report-to", report_to, *more]
    done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True)
    said = done.stdout + done.stderr
    check("no key is printed", KEY in said, False)
    lines = [line.removeprefix("warning: ") for line in said.splitlines()]
    return done.returncode, [line for line in lines if line.split(":")[0] in ("mlflow", "trackio", "wandb")]


def workplace(folder):
    (folder / "model").mkdir()
    golden = ROOT / "test/golden"
    for source in ("hf-tiny/config.json", "hf-tiny/model.safetensors", "letters/tokenizer.json", "letters/tokenizer_config.json"):
        (folder / "model" / Path(source).name).write_bytes((golden / source).read_bytes())
    rows = [{"text": f"The sum of {i} and {i % 4} is {i + i % 4}."} for i in range(14)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def expected(folder, name_of):
    """Numbers by the name that a server has them under, as (step, value), in the order of steps."""
    found = {}
    for line in (folder / "run/metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        side = {"trained": "eval", "ordinary": "eval_ordinary"}.get(event.get("network"), "train")
        for name, field in ({"step": FIELDS, "eval": EVAL_FIELDS}.get(event["kind"], {})).items():
            if event[field] is not None:
                found.setdefault(name_of(side, name), []).append((event["step"], event[field]))
    return {name: sorted(points) for name, points in found.items()}


slashed = lambda side, name: f"{side}/{name}"


def check_mlflow(folder, url):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("revmoe check")
    runs = client.search_runs([experiment.experiment_id])
    check("mlflow: one run", [(run.info.run_name, run.info.status) for run in runs], [("first", "FINISHED")])
    run = runs[0]
    wanted = expected(folder, lambda side, name: name if side == "train" else f"{side}_{name}")
    names = sorted(run.data.metrics)
    check("mlflow: names", names, sorted(wanted))
    for name in names:
        points = sorted({(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)})
        check(f"mlflow: {name}, {len(points)} numbers", points, wanted.get(name))
    check("mlflow: settings", (run.data.params["learning_rate"], run.data.params["model_type"]), ("0.00001", "qwen2_moe"))


def check_trackio(folder, url):
    def ask(name, **kwargs):
        request = urllib.request.Request(f"{url}/api/{name}", json.dumps({"kwargs": kwargs}).encode(), {"content-type": "application/json"})
        return json.load(urllib.request.urlopen(request))["data"]

    runs = ask("get_runs_for_project", project="revmoe-check")
    check("trackio: one run", [run["name"] if isinstance(run, dict) else run for run in runs], ["first"])
    run = runs[0] if isinstance(runs[0], dict) else {"name": runs[0], "id": None}
    configs = json.dumps(ask("get_run_configs", project="revmoe-check"))
    check("trackio: settings", '"model_type": "qwen2_moe"' in configs, True)
    logs = ask("get_logs", project="revmoe-check", run=run["name"], run_id=run["id"])
    found = {}
    for log in logs:
        for name, value in log.items():
            if "/" in name:
                found.setdefault(name, []).append((log["step"], value))
    check("trackio: all numbers", {name: sorted(points) for name, points in found.items()}, expected(folder, slashed))


def check_wandb(folder, got, url):
    ours = {path.split("/")[4] for path, _, _ in got if path.endswith("/file_stream")}
    check("wandb: one run", len(ours), 1)
    lines = [line for each in histories(got, ours.pop()) for line in each]
    check("wandb: each line at its place", [(at, line["_step"]) for at, line in lines], [(i, i) for i in range(len(lines))])
    found = {}
    for _, line in lines:
        for name, value in line.items():
            if "/" in name and name != "train/global_step":
                found.setdefault(name, []).append((line["train/global_step"], value))
    check("wandb: all numbers", {name: sorted(points) for name, points in found.items()}, expected(folder, slashed))

    mine = list(got)
    got.clear()
    script = (
        "import wandb\n"
        "run = wandb.init(project='revmoe-check', name='first', id='theirs', resume='allow', config={'learning_rate': 1e-5},"
        " settings=wandb.Settings(console='off', x_disable_stats=True))\n"
        "run.define_metric('train/global_step'); run.define_metric('*', step_metric='train/global_step', step_sync=True)\n"
        "run.log({'train/loss': 2.5, 'train/global_step': 1}); run.finish()\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, env={**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}, capture_output=True)
    theirs = list(got)

    def upserts(requests):
        return [body["variables"] for _, _, body in requests if "upsertBucket" in body.get("query", "")]

    check("wandb: the same key in the same header", {auth for _, auth, _ in mine}, {auth for path, auth, _ in theirs if path == "/graphql"})
    config = lambda variables: json.loads(variables["config"])
    check("wandb: the same form of settings", config(upserts(mine)[0])["learning_rate"], config(upserts(theirs)[0])["learning_rate"])
    check("wandb: the same axis of charts", config(upserts(mine)[0])["_wandb"]["value"]["m"], config(upserts(theirs)[-1])["_wandb"]["value"]["m"])
    check("wandb: no variable that the client does not send", set(upserts(mine)[0]) - set(upserts(theirs)[0]), set())
    streams = lambda requests: [(path, body) for path, _, body in requests if path.endswith("/file_stream") and "wandb-history.jsonl" in body.get("files", {})]
    check("wandb: the same path", streams(mine)[0][0].rsplit("/", 2)[0], streams(theirs)[0][0].rsplit("/", 2)[0])
    keys = lambda requests: {key for key in json.loads(streams(requests)[0][1]["files"]["wandb-history.jsonl"]["content"][0]) if key.startswith("_")}
    check("wandb: the same fields of a line beside its numbers", keys(mine), keys(theirs))
    end = lambda requests: [(body["complete"], body["exitcode"]) for path, _, body in requests if path.endswith("/file_stream") and "complete" in body]
    check("wandb: the same end", end(mine)[-1:], end(theirs))


def main():
    with tempfile.TemporaryDirectory(prefix="revmoe-servers-") as name:
        folder = Path(name)
        workplace(folder)
        ports = free_port(), free_port()
        store = f"sqlite:///{folder}/mlflow.db"
        mlflow_url, trackio_url = (f"http://127.0.0.1:{port}" for port in ports)
        show = f"import trackio; trackio.show(server_port={ports[1]}, host='127.0.0.1', open_browser=False, block_thread=True)"
        recorder = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
        recorder.got = []
        threading.Thread(target=recorder.serve_forever, daemon=True).start()
        wandb_url = f"http://127.0.0.1:{recorder.server_port}"
        servers = [
            start(["mlflow", "server", "--port", str(ports[0]), "--workers", "1", "--backend-store-uri", store], PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
            start([sys.executable, "-c", show], TRACKIO_DIR=str(folder / "trackio"), TRACKIO_WRITE_TOKEN=KEY, HF_HUB_OFFLINE="1"),
        ]
        env = {
            "MLFLOW_TRACKING_URI": mlflow_url, "MLFLOW_EXPERIMENT_NAME": "revmoe check",
            "TRACKIO_SERVER_URL": f"{trackio_url}/?write_token={KEY}", "TRACKIO_PROJECT": "revmoe-check",
            "WANDB_BASE_URL": wandb_url, "WANDB_API_KEY": KEY, "WANDB_PROJECT": "revmoe-check",
        }  # fmt: skip
        try:
            wait_for(f"{mlflow_url}/health", servers[0])
            wait_for(f"{trackio_url}/version", servers[1])
            for more in (["--max-steps", "4"], ["--max-steps", "6", "--resume", "latest"]):
                code, said = train(folder, *more, report_to="mlflow,trackio,wandb", **env)
                print("\n".join(said))
                check("the run ends well, and each sink says one thing", (code, len(said)), (0, 3))
            check_mlflow(folder, mlflow_url)
            check_trackio(folder, trackio_url)
            check_wandb(folder, recorder.got, wandb_url)
            wrong = {**env, "TRACKIO_SERVER_URL": f"{trackio_url}/?write_token=wrong"}
            code, said = train(folder, "--max-steps", "2", "--overwrite-output-dir", report_to="trackio", **wrong)
            print("\n".join(said))
            check("trackio, wrong key: the run ends well", (code, any("were not sent" in line for line in said)), (0, True))
            servers[0].terminate()
            servers[0].wait()
            time.sleep(1)
            code, said = train(folder, "--max-steps", "2", "--overwrite-output-dir", report_to="mlflow", **env)
            print("\n".join(said))
            check("mlflow, gone: the run ends well", (code, any("were not sent" in line for line in said)), (0, True))
        finally:
            for server in servers:
                server.terminate()
    sys.exit(1 if bad else 0)


main()

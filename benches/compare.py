#!/usr/bin/env python3
"""Times meshplan beside make, ninja, n2, openssl and the floors, in one go, and prints a table of ratios.

    benches/compare.py [start|idle|edit|ecdsa|rsa|steps|memory|inside …]      (default: all)

BENCH_STEPS=N takes so many clusters for `steps` instead of 1,000, which take two minutes to be made.

Needs hyperfine and cargo; another tool that is missing is named and left out. Every build from nothing gets a
folder of its own and nothing is removed before the end: for minutes after many files were deleted, ext4 takes
5 to 10 times as long to make new ones (recently_deleted in its inode allocator), whoever makes them.
"""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CORES = os.cpu_count()
ROWS = []
LONG_AGO = 1577836800  # no tool takes a file of then for newer than another


def have(tool):
    if shutil.which(tool):
        return True
    print(f"SKIPPED: {tool} is not installed", file=sys.stderr)
    return False


def built(name, *args):
    """Builds with cargo; the path of what was built."""
    lines = subprocess.run(
        ["cargo", *args, "--message-format=json"], cwd=HERE, check=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    return [m["executable"] for m in found if m.get("executable") and m["target"]["name"] == name][-1]


def row(case, what, seconds, base=None, goal=""):
    """A line of the table: what took how long, and how often that of the base."""
    ratio = f"{seconds / base:.2f}" if base else ""
    ROWS.append((case, what, f"{seconds * 1000:.1f} ms", ratio, goal))
    print(f"{case:24} {what:34} {seconds * 1000:11.1f} ms {ratio:>9} {goal}", flush=True)


def plan(folder, clusters, key="ecdsa-p256", more=lambda n: ""):
    folder.mkdir(parents=True)
    lines = ['mesh "mesh1" { }', f'root-ca {{ key "{key}"; }}', f'cluster-ca {{ key "{key}"; }}']
    lines += [f'cluster "c{n}" {{ network "n{n}"; {more(n)}}}' for n in range(1, clusters + 1)]
    (folder / "plan.kdl").write_text("\n".join(lines) + "\n")
    return folder / "plan.kdl"


def run(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **more)


def timed(*command, **more):
    start = time.perf_counter()
    done = run(*command, **more)
    return time.perf_counter() - start, done


def settled(folder, clusters):
    """A plan whose runs have nothing to do, told from the index."""
    path = plan(folder, clusters)
    run(MESHPLAN, "run", path, "-q")
    for pattern in ("*.pem", "*.yaml"):
        for file in folder.rglob(pattern):
            os.utime(file, (LONG_AGO, LONG_AGO))
    run(MESHPLAN, "run", path, "-q")
    run(MESHPLAN, "run", path, "-q")
    return path


def hyperfine(commands, rounds=8):
    """Median seconds of each command, run in turn with the others: a machine's speed changes within a minute."""
    out, times = WORK / "hyperfine.json", {}
    for _ in range(rounds):
        words = ["hyperfine", "-N", "--style", "none", "--warmup", "2", "--runs", "5", "--export-json", out]
        for name, command in commands:
            words += ["-n", name, command]
        run(*words)
        for result in json.loads(out.read_text())["results"]:
            times.setdefault(result["command"], []).extend(result["times"])
    return {name: statistics.median(taken) for name, taken in times.items()}


NINJA = """
rule key
  command = openssl ecparam -name prime256v1 -genkey -noout -out $out
rule root
  command = openssl req -x509 -new -sha256 -days 3650 -key $in -subj '/O=Istio/CN=Root CA' -out $out
rule cert
  command = openssl req -new -sha256 -key $name/ca-key.pem -subj '/O=Istio/CN=Intermediate CA/L=$name' | openssl x509 -req -sha256 -days 730 -CA root-cert.pem -CAkey root-key.pem -extfile ext -out $out
rule chain
  command = cat $in > $out
rule copy
  command = cp $in $out
rule install
  command = printf 'apiVersion: install.istio.io/v1alpha1\\nkind: IstioOperator\\nspec: {values: {global: {meshID: mesh1, multiCluster: {clusterName: $name}, network: n$n}}}\\n' > $out
build root-key.pem: key
build root-cert.pem: root root-key.pem
"""
CLUSTER = """build {c}/ca-key.pem: key
build {c}/ca-cert.pem: cert {c}/ca-key.pem root-cert.pem root-key.pem
  name = {c}
build {c}/cert-chain.pem: chain {c}/ca-cert.pem root-cert.pem
build {c}/root-cert.pem: copy root-cert.pem
build {c}/install.yaml: install
  name = {c}
  n = {n}
"""


def graph(folder, clusters, builders):
    """The same graph for make, ninja and n2, each having built it: their logs hold every command, which they compare
    as meshplan compares what a file was made by. The files are empty: their programs are stand-ins that do nothing."""
    files = ["root-key.pem", "root-cert.pem"]
    for n in range(1, clusters + 1):
        (folder / f"c{n}").mkdir(parents=True)
        files += [f"c{n}/{file}" for file in ("ca-key.pem", "ca-cert.pem", "cert-chain.pem", "root-cert.pem", "install.yaml")]
    text = NINJA + "".join(CLUSTER.format(c=f"c{n}", n=n) for n in range(1, clusters + 1))
    (folder / "build.ninja").write_text(text)
    # What ninja takes where it is told not to compare commands.
    (folder / "blind.ninja").write_text("builddir = blind\n" + text.replace("\n  command", "\n  generator = 1\n  command"))
    edges = re.findall(r"^build (.*): \w+(.*)", text, re.M)
    make = "all: " + " ".join(files) + "\n"
    (folder / "Makefile").write_text(make + "".join(f"{out}:{ins}\n\tfalse\n" for out, ins in edges))
    stands = folder / "bin"
    stands.mkdir()
    for tool in ("openssl", "cp"):
        os.symlink(shutil.which("true"), stands / tool)

    for file in files:
        (folder / file).touch()
        os.utime(folder / file, (LONG_AGO, LONG_AGO))
    for builder in builders:
        run(builder, "-C", folder, env={**os.environ, "PATH": f"{stands}:{os.environ['PATH']}"})
    for builder in builders:
        again = run(builder, "-C", folder).stdout
        assert "no work to do" in again, again
    return files


def n2():
    """n2 from PATH, or built into target/bench-tools from its repository, which no registry has."""
    root = HERE / "target" / "bench-tools"
    tool = shutil.which("n2") or root / "bin" / "n2"
    if not Path(tool).exists():
        source = ["--git", "https://github.com/evmar/n2"]
        subprocess.run(["cargo", "install", "--quiet", "--root", root, *source], capture_output=True)
    if Path(tool).exists():
        return tool
    print(f"SKIPPED: n2 is neither in PATH nor in {root.relative_to(HERE)}, and cannot be fetched", file=sys.stderr)
    return None


def idle():
    for clusters in (1_000, 10_000):
        path = settled(WORK / f"idle{clusters}", clusters)
        theirs = WORK / f"theirs{clusters}"
        builders = [tool for tool in (have("ninja") and "ninja", n2()) if tool]
        files = graph(theirs, clusters, builders)
        listed = path.parent / "files"
        listed.write_text("\n".join(str(path.parent / file) for file in files) + "\n")
        commands = [("floor", f"{FLOOR} stat {listed}"), ("meshplan", f"{MESHPLAN} run {path}")]
        commands += [(Path(tool).name, f"{tool} -C {theirs}") for tool in builders]
        if "ninja" in builders:
            commands.append(("ninja, commands not compared", f"ninja -C {theirs} -f blind.ninja"))
        if have("make"):
            commands.append(("make", f"make -s -C {theirs} all"))
        means = hyperfine(commands)
        case = f"nothing to do, {clusters:,}"
        row(case, "floor: stat, one thread", means["floor"])
        row(case, "meshplan / floor", means["meshplan"], means["floor"], "≤ 0.8")
        for other in ("ninja", "ninja, commands not compared", "n2", "make"):
            if other in means:
                goal = "≥ 4" if other == "ninja" else ""
                row(case, f"{other} / meshplan", means[other], means["meshplan"], goal)


def edit():
    for clusters in (1_000, 10_000):
        path = settled(WORK / f"edit{clusters}", clusters)
        text = path.read_text()
        middle = re.compile(rf'cluster "c{clusters // 2}" .*')
        kinds = [
            ("one install.yaml", lambda n: f'network "m{n}"; '),
            ("one certificate signed", lambda n: f'ca {{ validity "{400 + n}d"; }}; '),
        ]
        for what, node in kinds:
            quiet, edited = [], []
            for n in range(15):
                took, done = timed(MESHPLAN, "run", path)
                assert "nothing to do" in done.stderr, done.stderr
                quiet.append(took)
                path.write_text(middle.sub(f'cluster "c{clusters // 2}" {{ {node(n)}}}', text))
                took, done = timed(MESHPLAN, "run", path)
                # The first of a kind puts right what the kind before had made of the cluster.
                assert " ran," in done.stderr, done.stderr
                edited.append(took)
            base, took = statistics.median(quiet), statistics.median(edited)
            case = f"one cluster edited, {clusters:,}"
            row(case, f"{what}, above nothing to do", took - base, goal="≤ 20 ms")


OPENSSL = """
CLUSTERS := $(shell seq -f c%.0f {clusters})
all: $(CLUSTERS:%=%/cert-chain.pem)
root-key.pem:
	{root} -out $@
root-cert.pem: root-key.pem
	openssl req -x509 -new -sha256 -days 3650 -key root-key.pem -subj '/O=Istio/CN=Root CA' -out $@
%/ca-key.pem:
	mkdir -p $* && {key} -out $@
%/ca.csr: %/ca-key.pem
	openssl req -new -sha256 -key $< -subj '/O=Istio/CN=Intermediate CA/L=$*' -out $@
%/ca-cert.pem: %/ca.csr root-cert.pem
	openssl x509 -req -sha256 -days 730 -CA root-cert.pem -CAkey root-key.pem -in $< -extfile ext -out $@ 2>/dev/null
%/cert-chain.pem: %/ca-cert.pem root-cert.pem
	cat $^ > $@ && cp root-cert.pem $*/root-cert.pem
.SECONDARY:
"""
EXTENSIONS = """basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign,digitalSignature
subjectAltName=DNS:istiod.istio-system.svc
"""


def openssl(folder, clusters, key, jobs):
    """What Istio's Makefile does for a cluster, a serial of its own for each certificate."""
    folder.mkdir(parents=True)
    (folder / "ext").write_text(EXTENSIONS)
    (folder / "Makefile").write_text(OPENSSL.format(clusters=clusters, root=key, key=key))
    return timed("make", "-s", "-C", folder, f"-j{jobs}")[0]


def ecdsa():
    case, clusters = "1,000 ECDSA from nothing", 1_000
    path = plan(WORK / "ecdsa", clusters)
    ours, loop = [], []
    both = [
        ("loop", loop, lambda d: (FLOOR, "build", clusters, d)),
        ("ours", ours, lambda d: (MESHPLAN, "run", path, "-q", "-C", d)),
    ]
    for n in range(21):
        both.reverse()  # what one leaves to be written back is not always the same one's loss
        for dirs, took, command in both:
            folder = WORK / f"ecdsa-{dirs}-{n}"
            folder.mkdir()
            took.append(timed(*command(folder))[0])
    took = statistics.median(ours)
    row(case, "bare loop, one sync", statistics.median(loop))
    row(case, "meshplan / bare loop", took, statistics.median(loop), "≤ 1.3")
    if shutil.which("strace"):
        folder = WORK / "ecdsa-synced"
        folder.mkdir()
        traced = run("strace", "-f", "-T", "-e", "trace=syncfs,fsync,fdatasync", MESHPLAN, "run", path, "-q", "-C", folder)
        syncs = [float(t) for t in re.findall(r"sync\w*.*<([\d.]+)>", traced.stderr)]
        row(case, f"of which {len(syncs)} syncs beside the work", sum(syncs), took)
    if have("make") and have("openssl"):
        key = "openssl ecparam -name prime256v1 -genkey -noout"
        # Istio's Makefile breaks bundles with more than one job, so people run it with one; this one would not.
        for jobs, goal in ((1, "≥ 100"), (CORES, "")):
            hundred = [openssl(WORK / f"ecdsa-make{jobs}-{n}", 100, key, jobs) for n in range(3)]
            what = f"make -j{jobs}+openssl (100, times ten) / meshplan"
            row(case, what, 10 * statistics.median(hundred), took, goal)


def rsa():
    # The root is one of the 24: the bound counts a key for each CA.
    case, keys = "24 RSA-4096 CAs from nothing", 24
    path = plan(WORK / "rsa", keys - 1, key="rsa-4096")
    ours, means, makes = [], [], []
    for n in range(5):
        folder = WORK / f"rsa-ours-{n}"
        folder.mkdir()
        ours.append(timed(MESHPLAN, "run", path, "-q", "-C", folder)[0])
        means.append(float(run(FLOOR, "keygen", keys, CORES).stdout))
        if n < 3 and shutil.which("make") and shutil.which("openssl"):
            key = "openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:4096"
            makes.append(openssl(WORK / f"rsa-make-{n}", keys - 1, key, CORES))
    took = statistics.mean(ours)
    bound = keys * statistics.mean(means) / CORES
    row(case, f"24 × mean keygen ÷ cores ({keys * CORES * len(means)} keys)", bound)
    row(case, f"meshplan ({keys * len(ours)} keys) / bound", took, bound, "≤ 1.05")
    if makes:
        row(case, "make+openssl, sequentially per core / meshplan", statistics.mean(makes), took, "≥ 1.5")


def kubeconfig(names):
    """As a cloud's tool writes it: a CA certificate for each cluster, and one user for all."""
    lines = ["apiVersion: v1", "kind: Config", "users:", "- {name: me, user: {token: none}}", "clusters:"]
    for name in names:
        lines += [f"- name: {name}", f"  cluster: {{server: 'https://{name}', certificate-authority-data: {'Q' * 1500}}}"]
    lines.append("contexts:")
    for name in names:
        lines += [f"- name: {name}", f"  context: {{cluster: {name}, user: me}}"]
    return "\n".join(lines) + "\n"


def steps():
    clusters, millis = int(os.environ.get("BENCH_STEPS", 1_000)), 100
    case = f"cluster steps, {clusters:,}"
    folder = WORK / "steps"
    # One primary that reads them all: in a mesh of 1,000 primaries a million secrets would be the work.
    path = plan(
        folder, clusters,
        more=lambda n: f'context "ctx{n}"; ' + ("" if n == 1 else 'remote-of "c1"; '),
    )
    path.write_text(re.sub(r'network "n\d+"', 'network "n1"', path.read_text()))
    (folder / "bin").mkdir()
    (folder / "answers").mkdir()
    os.symlink(FLOOR, folder / "bin" / "kubectl")
    fixtures = HERE / "fixtures" / "bin"
    names = [f"ctx{n}" for n in range(1, clusters + 1)]
    (folder / "kubeconfig").write_text(kubeconfig(names))
    env = {
        **os.environ,
        "KUBECTL": str(folder / "bin" / "kubectl"), "ISTIOCTL": str(fixtures / "istioctl"),
        "BEHIND": str(fixtures / "kubectl"), "ANSWERS": str(folder / "answers"), "MILLIS": str(millis),
        "FAKE_DIR": str(folder / "fake"), "FAKE_CONTEXTS": " ".join(names),
        "KUBECONFIG": str(folder / "kubeconfig"),
    }
    run(MESHPLAN, "run", path, "-q", env=env)
    # What a run asks that changes nothing is answered from memory from then on.
    run(MESHPLAN, "run", path, "-q", env={**env, "KEEP": "1"})
    # What a call takes for its caller, with the start and the end of its process.
    bare = (env["KUBECTL"], "config", "get-contexts", "-o", "name")
    run(*bare, env={**env, "KEEP": "1"})
    latency = statistics.mean(timed(*bare, env=env)[0] for _ in range(20))
    row(case, f"one bare call, of which {millis} ms are waited", latency)
    for jobs in (16, 64):
        (folder / "answers" / "calls").unlink(missing_ok=True)
        took, _ = timed(MESHPLAN, "run", path, "-q", "--cluster-jobs", jobs, env=env)
        calls = (folder / "answers" / "calls").read_text().splitlines()
        gets = [call for call in calls if "--context" in call]
        row(case, f"{len(gets) / clusters:.2f} calls a cluster, -{jobs} / latency × calls ÷ {jobs}",
            took, len(calls) * latency / jobs, "≤ 1.05")


def start():
    means = hyperfine(
        [("version", f"{MESHPLAN} --version"), ("check", f"{MESHPLAN} check {HERE}/plans/demo.kdl")]
    )
    row("start", "--version", means["version"], goal="≤ 5 ms")
    row("start", "check of the demo", means["check"], goal="≤ 10 ms")


# A child's peak counts from its maker's own size on: this one is small.
PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
assert status == 0
print(usage.ru_maxrss)
"""


def memory():
    def peak(*command):
        return int(run(sys.executable, "-I", "-S", "-c", PEAK, *command).stdout.splitlines()[-1]) / 1024

    for clusters in (1_000, 10_000, 100_000):
        case = f"memory, {clusters:,}"
        path = plan(WORK / f"memory{clusters}", clusters)
        peaks = [("from nothing", peak(MESHPLAN, "run", path, "-q"))]
        peaks.append(("nothing to do, by a walk", peak(MESHPLAN, "run", path, "-q")))
        peaks.append(("nothing to do, by the index", peak(MESHPLAN, "run", path, "-q")))
        text = path.read_text()
        path.write_text(text.replace(f'network "n{clusters // 2}"', 'network "m"'))
        peaks.append(("one cluster edited", peak(MESHPLAN, "run", path, "-q")))
        for what, mib in peaks:
            goal = "≤ 60 MiB" if clusters == 10_000 else ""
            ROWS.append((case, what, f"{mib:.0f} MiB", "", goal))
            print(f"{case:24} {what:34} {mib:11.0f} MiB {goal:>16}", flush=True)


def inside():
    # divan prints a table of its own.
    print(run(INSIDE, "--bench").stdout, flush=True)


CASES = {
    "start": start, "idle": idle, "edit": edit, "ecdsa": ecdsa, "rsa": rsa, "steps": steps, "memory": memory,
    "inside": inside,
}

if __name__ == "__main__":
    wanted = sys.argv[1:] or list(CASES)
    for name in wanted:
        if name not in CASES:
            sys.exit(f"no case {name}: there are {', '.join(CASES)}")
    if not have("hyperfine"):
        sys.exit(1)
    MESHPLAN = built("meshplan", "build", "--release", "--bin", "meshplan")
    FLOOR = built("floor", "bench", "--no-run", "--bench", "floor")
    INSIDE = built("inside", "bench", "--no-run", "--bench", "inside")
    with tempfile.TemporaryDirectory() as work:
        WORK = Path(work)
        for name in wanted:
            CASES[name]()
    if ROWS:
        print("\n| case | what | figure | ratio | goal |\n|---|---|---|---|---|")
    for line in ROWS:
        print(f"| {' | '.join(line)} |")

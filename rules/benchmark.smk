rule time_fits:
    """Time all fits of an analysis once, into records that are thrown away.

    All cores, so that no other job of this run is beside it; and the script holds a lock.
    """
    input:
        workspaces=benchmark_inputs("workspace"),
        patchsets=benchmark_inputs("patchset"),
    output:
        times="results/_benchmark/{analysis}/{case}/{repetition}.json",
    log:
        "logs/_benchmark/{analysis}/{case}/{repetition}.log",
    params:
        timed=benchmark_case,
    threads: workflow.cores or 1
    wildcard_constraints:
        case="|".join(map(re.escape, SETTINGS.benchmark.executors)),
        repetition=r"[1-9][0-9]*",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/time_fits.py"


rule benchmark_table:
    """Fold the times of all repetitions into a table and a bar plot."""
    input:
        times=benchmark_times(),
    output:
        table=report(
            "results/_benchmark/times.csv",
            caption="../report/benchmark.rst",
            category="benchmark",
            labels={"region": "all", "what": "wall times"},
        ),
        markdown="results/_benchmark/times.md",
        png=report(
            "results/_benchmark/times.png",
            caption="../report/benchmark.rst",
            category="benchmark",
            labels={"region": "all", "what": "wall times (plot)"},
        ),
        pdf="results/_benchmark/times.pdf",
    log:
        "logs/_benchmark/table.log",
    params:
        shown=benchmark_shown(),
    localrule: True
    conda:
        "../envs/workflow.yaml"
    script:
        "../scripts/benchmark_table.py"


rule benchmark:
    """Wall times of all selected analyses with the executors of `benchmark`, as table and plot."""
    input:
        "results/_benchmark/times.csv",
        "results/_benchmark/times.md",
        "results/_benchmark/times.png",

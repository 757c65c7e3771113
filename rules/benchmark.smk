# A rule for each repetition, because only rules have priorities: every analysis and executor has its
# first repetition before any has its second, so that a machine that becomes faster or slower
# meanwhile does not favour one of them.
for repetition in range(1, SETTINGS.benchmark.repetitions + 1):

    rule:
        """Time all fits of an analysis once, into records that are thrown away.

        All cores, so that no other job of this run is beside it; and the script holds a lock.
        """
        name:
            f"time_fits_{repetition}"
        input:
            workspaces=benchmark_inputs("workspace"),
            patchsets=benchmark_inputs("patchset"),
        output:
            times=f"results/_benchmark/{{analysis}}/{{case}}/{repetition}.json",
        log:
            f"logs/_benchmark/{{analysis}}/{{case}}/{repetition}.log",
        params:
            timed=benchmark_case,
        threads: workflow.cores or 1
        wildcard_constraints:
            case="|".join(map(re.escape, SETTINGS.benchmark.executors)),
        priority: SETTINGS.benchmark.repetitions - repetition
        localrule: True
        conda:
            "../envs/workflow.yaml"
        message:
            "{wildcards.analysis}: time all fits with {wildcards.case}"
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
    message:
        "fold the times into a table"
    script:
        "../scripts/benchmark_table.py"


rule benchmark:
    """Wall times of all selected analyses with the executors of `benchmark`, as table and plot."""
    input:
        "results/_benchmark/times.csv",
        "results/_benchmark/times.md",
        "results/_benchmark/times.png",
    message:
        "everything that was asked for is there"

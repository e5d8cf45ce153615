OUT = config["output"]
FORMAT = config["format"]
N_SHARDS = config["shards"]
DEVICE = config["device"] or ("cuda" if config["gpus"] else "cpu")
RESULTS = expand(f"{OUT}/{{name}}.{FORMAT}", name=config["vcfs"])


rule weights:
    """Fetch a model's weights once, on the machine that has a network, before a thousand jobs ask for them."""
    output:
        touch(f"{OUT}/weights/{{model}}"),
    log:
        f"{OUT}/logs/weights/{{model}}.log",
    localrule: True
    shell:
        "varfm models download {wildcards.model} > {log} 2>&1"


rule score:
    """Score one piece of a VCF."""
    input:
        vcf=lambda wildcards: config["vcfs"][wildcards.name],
        fasta=config["fasta"],
        genes=config["genes"] or [],
        weights=expand(f"{OUT}/weights/{{model}}", model=config["models"]),
    output:
        scores=temp(f"{OUT}/shards/{{name}}/{{shard}}.{FORMAT}"),
        manifest=temp(f"{OUT}/shards/{{name}}/{{shard}}.{FORMAT}.varfm.json"),
    log:
        f"{OUT}/logs/score/{{name}}/{{shard}}.log",
    retries: config["retries"]
    threads: config["threads"]
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["runtime_minutes"],
        gpu=config["gpus"],
    params:
        models=[f"-m {model}" for model in config["models"]],
        genes=lambda wildcards, input: f"--genes {input.genes:q}" if input.genes else "",
        n_shards=N_SHARDS,
        # Not Snakemake's own number, which it lowers to the cores that it has: merge refuses pieces of unequal numbers.
        n_threads=config["threads"],
        device=DEVICE,
        options=config["options"],
    shell:
        "varfm score {input.vcf:q} -f {input.fasta:q} {params.genes} {params.models} {params.options}"
        " --shard {wildcards.shard}/{params.n_shards} --device {params.device} --threads {params.n_threads}"
        # A lost job goes on where it was; after a change of the configuration it begins afresh.
        " --resume --force"
        " -o {output.scores:q} > {log:q} 2>&1"


rule merge:
    """Join the pieces: the result is what one run over the whole file writes."""
    input:
        [f"{OUT}/shards/{{name}}/{shard}.{FORMAT}" for shard in range(1, N_SHARDS + 1)],
        manifests=[
            f"{OUT}/shards/{{name}}/{shard}.{FORMAT}.varfm.json"
            for shard in range(1, N_SHARDS + 1)
        ],
    output:
        scores=f"{OUT}/{{name}}.{FORMAT}",
        manifest=f"{OUT}/{{name}}.{FORMAT}.varfm.json",
    log:
        f"{OUT}/logs/merge/{{name}}.log",
    resources:
        mem_mb=2000,
        runtime=config["runtime_minutes"],
    params:
        shards=lambda wildcards, input: input[:N_SHARDS],
        indexes=lambda wildcards, input: [
            f"{shard}.{kind}" for shard in input[:N_SHARDS] for kind in ("tbi", "csi")
        ],
    shell:
        "varfm merge -o {output.scores:q} {params.shards:q} > {log:q} 2>&1"
        # The indexes of the pieces are not among the temporary files: not every format and order has one.
        " && rm -f {params.indexes:q}"

"""Snakemake wrapper of `varfm score`; meta.yaml says what it takes."""

from shlex import quote

from snakemake.shell import shell

job = globals()["snakemake"]
log = job.log_fmt_shell(stdout=True, stderr=True)

models = job.params.get("models", [])
words = [f"-m {quote(model)}" for model in ([models] if isinstance(models, str) else models)]
if "genes" in job.input.keys():
    words.append(f"--genes {quote(job.input.genes)}")
if shard := job.params.get("shard"):
    words.append(f"--shard {quote(shard)}")
device = "cuda" if job.resources.get("gpu", 0) else "cpu"
words.append(job.params.get("extra", ""))

shell(
    f"varfm score {quote(job.input.vcf)} -f {quote(job.input.fasta)} {' '.join(words)}"
    f" --device {device} --threads {job.threads} -o {quote(job.output.scores)} {log}"
)

rule skipped:
    """Count, for each file and model, the alleles that were scored and the reasons of those that were not."""
    input:
        expand(f"{OUT}/{{name}}.{FORMAT}.varfm.json", name=config["vcfs"]),
    output:
        table=f"{OUT}/skipped.tsv",
        page=report(f"{OUT}/skipped.html", category="varfm"),
    log:
        f"{OUT}/logs/skipped.log",
    localrule: True
    params:
        names=list(config["vcfs"]),
    script:
        "../scripts/skipped.py"

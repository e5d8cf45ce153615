// Joins the pieces that VARFM_SCORE wrote to what one run over the whole file writes.
process VARFM_MERGE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "varfm:0.1.0"

    input:
    tuple val(meta), path(shards), path(manifests)

    output:
    tuple val(meta), path("${prefix}.{vcf,vcf.gz,bcf,tsv,tsv.gz,parquet}"), emit: scores
    tuple val(meta), path("${prefix}.*.varfm.json"), emit: manifest
    tuple val(meta), path("${prefix}.*.{tbi,csi}"), emit: index, optional: true
    tuple val("${task.process}"), val('varfm'), eval("varfm --version | sed 's/.* //'"), topic: versions, emit: versions_varfm

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def suffix = task.ext.suffix ?: 'vcf.gz'
    prefix = task.ext.prefix ?: "${meta.id}.scored"
    """
    varfm merge \\
        --output ${prefix}.${suffix} \\
        ${args} \\
        ${shards}
    """

    stub:
    def suffix = task.ext.suffix ?: 'vcf.gz'
    prefix = task.ext.prefix ?: "${meta.id}.scored"
    def empty = suffix.endsWith('.gz') ? "echo '' | gzip > ${prefix}.${suffix}" : "touch ${prefix}.${suffix}"
    """
    ${empty}
    touch ${prefix}.${suffix}.varfm.json
    """
}

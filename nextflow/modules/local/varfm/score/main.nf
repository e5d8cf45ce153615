// Scores the variants of a VCF, or one piece of it: meta.shard is "I/N", as `varfm score --shard` takes it.
// Other options go into task.ext.args; task.ext.suffix names the format. With an accelerator, the networks run on it.
process VARFM_SCORE {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "varfm:0.1.0"

    input:
    tuple val(meta), path(vcf)
    tuple val(meta2), path(fasta)
    tuple val(meta3), path(genes)

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
    def device = task.accelerator ? 'cuda' : 'cpu'
    def gene_file = genes ? "--genes ${genes}" : ''
    def shard = meta.shard ? "--shard ${meta.shard}" : ''
    prefix = task.ext.prefix ?: (meta.shard ? "${meta.id}.scored.${meta.shard.replace('/', '-')}" : "${meta.id}.scored")
    if ("${vcf}" == "${prefix}.${suffix}") {
        error("The input and the output are both named ${vcf}. Set task.ext.prefix to another name.")
    }
    """
    varfm score \\
        ${vcf} \\
        --fasta ${fasta} \\
        ${gene_file} \\
        ${shard} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --output ${prefix}.${suffix} \\
        ${args}
    """

    stub:
    def suffix = task.ext.suffix ?: 'vcf.gz'
    prefix = task.ext.prefix ?: (meta.shard ? "${meta.id}.scored.${meta.shard.replace('/', '-')}" : "${meta.id}.scored")
    def empty = suffix.endsWith('.gz') ? "echo '' | gzip > ${prefix}.${suffix}" : "touch ${prefix}.${suffix}"
    """
    ${empty}
    touch ${prefix}.${suffix}.varfm.json
    """
}

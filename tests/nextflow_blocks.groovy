// Evaluates blocks of Nextflow modules as Nextflow does, each with the values given: the text between two labels is
// Groovy whose last value is a shell script. Reads from stdin, and prints to stdout, a list in JSON.
//
//   [{"file": "main.nf", "block": "script", "values": {"meta": {"id": "a"}, "task": {...}}}, ...]
import groovy.json.JsonOutput
import groovy.json.JsonSlurper

String block(String text, String name) {
    def labels = 'input|output|when|script|shell|exec|stub'
    def found = (text =~ /(?ms)^    ${name}:\n(.*?)(?=^    (?:${labels}):\n|^}\n)/)
    assert found.find()
    return found.group(1)
}

def results = new JsonSlurper().parse(System.in).collect { request ->
    def binding = new Binding(request.values)
    binding.setVariable('error', { message -> throw new IllegalStateException(message) })
    try {
        def script = new GroovyShell(binding).evaluate(block(new File(request.file).text, request.block))
        return [script: script.toString().stripIndent(), prefix: binding.getVariable('prefix').toString()]
    } catch (IllegalStateException stopped) {
        return [error: stopped.message]
    }
}
println(JsonOutput.toJson(results))

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn rendered(source: &str) -> Result<String> {
    let messages = [json!({"role": "user", "content": "Hi <b>"}), json!({"role": "assistant", "content": "Ho"})];
    Jinja::new(source, "<bos>", "<eos>")?.render(&messages, &[], false)
}

#[track_caller]
fn text(source: &str) -> String {
    rendered(source).unwrap_or_else(|e| panic!("{source}: {e}"))
}

/// What is said of a template that must be refused, soon.
#[track_caller]
fn refusal(source: &str) -> String {
    let start = Instant::now();
    let error = rendered(source).err().unwrap_or_else(|| panic!("accepted: {:.200}", source));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?} for {:.200}", start.elapsed(), source);
    assert_eq!(error.exit_code(), 2, "{error}");
    error.what().to_owned()
}

#[test]
fn deep_expressions_are_refused_before_they_are_compiled() {
    for source in [
        format!("{{{{ {}1 }}}}", "-".repeat(20_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(20_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(20_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{{{{ {}{} }}}}", "[".repeat(20_000), "]".repeat(20_000)),
        format!("{{{{ x{} }}}}", "|trim".repeat(20_000)),
        format!("{{{{ x{} }}}}", "[0]".repeat(20_000)),
        format!("{{{{ 1{} }}}}", " if x else 1".repeat(20_000)),
        format!("{}{}", "{% if x %}".repeat(10_000), "{% endif %}".repeat(10_000)),
        format!("{}{}", "{% for x in y %}".repeat(5_000), "{% endfor %}".repeat(5_000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(15_000)),
        "a".repeat(300_000),
        "\n".repeat(300_000),
        "{#".repeat(200_000),
    ] {
        refusal(&source);
    }
    // As deep as is allowed, compiling has stack enough.
    assert_eq!(text(&format!("{{{{ {}1 }}}}", "-".repeat(990))), "1");
    assert_eq!(text(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(990))), "");
}

#[test]
fn what_takes_all_time_or_memory_is_refused_soon() {
    let doubled = |step: &str| {
        format!(
            "{{% set ns = namespace(x='0123456789') %}}{{% for i in range(90) %}}{{% set ns.x = {step} %}}{{% endfor %}}{{{{ ns.x }}}}"
        )
    };
    let grown = [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 2",
        "ns.x|replace('0', ns.x)",
        "ns.x.replace('', ns.x)",
        "[ns.x, ns.x]|join(ns.x)",
        "ns.x.join([1, 2, 3])",
        "[ns.x, ns.x]",
        "[ns.x, ns.x]|string",
        "{'a': ns.x, 'b': ns.x}|tojson",
        "[ns.x] + [ns.x]",
        "(ns.x|list) + (ns.x|list)",
        "(ns.x, ns.x)",
        "ns.x|replace('0', '00&&')|escape",
    ];
    for step in grown {
        text(&doubled(step).replace("range(90)", "range(1)"));
        refusal(&doubled(step));
    }
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ range(1000000000)|list|length }}",
        "{{ range(-9223372036854775807, 9223372036854775807) }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 'x' * 90000000 }}",
        "{{ 'x' * (1000 * 1000) * 1000 }}",
        "{{ ['x'] * 90000000 }}",
        "{{ 'x' * 1e9 }}",
        "{% set n = 1000000000 %}{{ 'x' * n }}{{ messages * n }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x'|center(1000000000) }}",
        "{{ 'x\ny'|indent(1000000000) }}",
        "{{ 'x\ny'|indent(width=1000000000) }}",
        "{{ messages|tojson(indent=1000000000) }}",
        "{{ [1]|batch(1000000000, 1)|list }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns == ns.me }}{{ ns|tojson }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x in [ns.x] }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ {ns.x: 1} }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ messages[ns.x] }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ [ns.x, ns.x]|sort }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set x %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = x %}{% endfor %}",
    ] {
        refusal(source);
    }
    // Text between tags, repeated with every step.
    let long = "x".repeat(200_000);
    refusal(&format!("{{% set a %}}{{% for i in range(99999) %}}{long}{{% endfor %}}{{% endset %}}"));
}

#[test]
fn what_nests_as_deep_as_its_steps_allow_can_be_dropped() {
    for source in [
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set n = namespace() %}{% set n.x = ns.x %}{% set ns.x = n %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = ns.x + [i] %}{% endfor %}",
    ] {
        let _ = rendered(source); // some end before they run out of steps
    }
}

#[test]
fn an_error_names_its_limit() {
    assert_eq!(
        refusal("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "the model's chat template refuses the conversation: it takes more than 226000 steps"
    );
    assert_eq!(
        refusal(&format!("{{{{ {}1 }}}}", "-".repeat(20_000))),
        "the chat template is refused: the tag in line 1 has more than 1000 tokens"
    );
    assert!(refusal("{{ 1 < messages|length < 3 }}").contains("it chains comparisons"));
}

#[test]
fn what_templates_do_is_done_as_in_python() {
    for (source, expected) in [
        ("{{ 'a' ~ 1 ~ none }}{{ 1 + 2 * 3 - 4 // 3 }}{{ 7 % 3 }}{{ 2 ** 5 }}{{ 'ab' * 2 }}", "a1None6132abab"),
        ("{{ [1] + [2, 3] }}{{ 'a' + 'b' }}{{ 'a' < 'b' }}{{ 1 == 1.0 }}{{ 1 != 2 }}", "[1, 2, 3]abTrueTrueTrue"),
        ("{{ 'b' in 'abc' }}{{ 'role' in messages[0] }}{{ 3 not in [1, 2] }}{{ 1 in [1] }}", "TrueTrueTrueTrue"),
        (
            "{{ messages[0]['role'] }}{{ messages[-1].role }}{{ messages[1:][0].content }}{{ 'abc'[::-1] }}",
            "userassistantHocba",
        ),
        ("{{ messages[9] is defined }}{{ missing is defined }}", "FalseFalse"),
        ("{{ {'b': 1, 'a': [true, none]}|tojson }}", r#"{"b": 1, "a": [true, null]}"#),
        ("{{ messages[0]|tojson }}", r#"{"role": "user", "content": "Hi <b>"}"#),
        ("{{ {'a': {}, 'b': [1, 'é']}|tojson(indent=2) }}", "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"é\"\n  ]\n}"),
        ("{% for k, v in {'z': messages|length, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "z2a2"),
        ("{% for k, v in {'z': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}", "a2z1"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join('|') }}", "Hi <b>"),
        (
            "{{ ' a '.strip() }}{{ 'a,b'.split(',')[1] }}{{ 'abc'.startswith('ab') }}{{ 'aXa'.replace('X', '-') }}",
            "abTruea-a",
        ),
        ("{{ 'aaa'.replace('a', 'b', 2) }}{{ 'aaa'|replace('a', 'b') }}{{ ' x '|trim }}{{ 'ab'|upper }}", "bbabbbxAB"),
        ("{{ range(3)|list }}{{ range(3, 0, -1)|list }}{{ range(1, 6, 2)|list }}", "[0, 1, 2][3, 2, 1][1, 3, 5]"),
        ("{% macro m(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}{{ m(1, y=3) }}", "1213"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        (
            "{{ messages[0].get('x', 'd') }}{{ messages|length }}{{ missing|default('d') }}{{ [3, 1]|sort }}",
            "d2d[1, 3]",
        ),
        ("{{ bos_token }}{% generation %}{{ eos_token }}{% endgeneration %}", "<bos><eos>"),
        ("{{ [none, true]|join('-') }}{{ true|string }}{{ missing|trim }}{{ none|trim }}", "None-TrueTrueNone"),
        ("{{ 'a' if messages else 'b' }}{{ not true }}{{ true and 'x' }}{{ '' or 'y' }}", "aFalsexy"),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

/// Pieces of templates, most of which fit together.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{%- ",
        " -%}",
        "for m in ",
        "endfor",
        "if ",
        "elif ",
        "else",
        "endif",
        "set ns = ",
        "set ns.x = ",
        "namespace(x=",
        "messages",
        "range(",
        ")",
        "99999",
        "9223372036854775807",
        "1e300",
        "-1",
        "'x'",
        "'%d'",
        "\"\"",
        " ~ ",
        " + ",
        " * ",
        " ** ",
        " - ",
        "not ",
        "[",
        "]",
        "{",
        "}",
        ":",
        ", ",
        "|",
        "tojson",
        "join(",
        "replace(",
        "string",
        "list",
        "length",
        ".items()",
        ".split(",
        "m",
        "ns.x",
        "ns",
        "loop.index",
        " in ",
        " == ",
        " < ",
        "macro f(a)",
        "endmacro",
        "f(",
        "is defined",
        "{% set ns = namespace(x=[1]) %}{% for m in range(999) %}{% set ns.x = ",
        "%}{% endfor %}",
        "[::-1]",
        "[0]",
        "\n",
        "é",
        "{#",
        "#}",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => ".{0,4}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// No template panics, takes long, or makes much.
    #[test]
    fn any_template_ends(pieces in prop::collection::vec(piece(), 0..40)) {
        let start = Instant::now();
        if let Ok(text) = rendered(&pieces.concat()) {
            prop_assert!(text.len() < 1 << 28);
        }
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }

    /// Expressions of a loop, each made of those before.
    #[test]
    fn any_growth_ends(steps in prop::collection::vec(prop::sample::select(vec![
        "ns.x ~ ns.x", "[ns.x, ns.x]", "ns.x|string", "ns.x * 3", "ns.x + ns.x", "[ns.x]|join(ns.x|string)", "{'a': ns.x}", "ns.x|tojson",
        "ns.x[::2]", "ns.x|list", "namespace(x=ns.x)", "(ns.x, ns)", "ns.x|replace('a', ns.x|string)", "ns.x|map('string')|list", "ns.x|unique|list",
    ]), 1..6)) {
        let start = Instant::now();
        let body: String = steps.iter().map(|step| format!("{{% set ns.x = {step} %}}")).collect();
        let _ = rendered(&format!("{{% set ns = namespace(x='a') %}}{{% for i in range(50) %}}{body}{{% endfor %}}{{{{ ns.x }}}}"));
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }
}

//! Chat templates: by name, in full, in a file, or whichever the models use most.

/// What a stage's `chat_template` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// The template that most of the stage's models have.
    Auto,
    /// A Jinja template.
    Jinja(String),
    /// A file that holds one, as the recipe names it.
    File(String),
}

/// Templates that go by a name. They render what mergekit's of the same names do, blanks and line ends included.
const NAMED: [(&str, &str); 5] = [
    (
        "alpaca",
        "{% set ns = namespace(system='') %}{% for message in messages %}\
         {% if message['role'] == 'system' %}{% set ns.system = message['content'] | trim %}{% endif %}{% endfor %}\
         {{ ns.system + '\\n\\n' }}{% for message in messages %}{% if message['role'] in ['user', 'assistant'] %}\
         {{ '### Instruction:\\n' if message['role'] == 'user' else '### Response:\\n' }}\
         {{ message['content'] | trim }}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endif %}{% endfor %}\
         {% if add_generation_prompt and (not messages or messages[-1]['role'] != 'assistant') %}\
         {{ '### Response:\\n' }}{% endif %}",
    ),
    (
        "chatml",
        "{% for message in messages %}\
         {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "exaone",
        "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
         {{ '        [|system|][|endofturn|]\\n\\n' }}{% endif %}\
         {{ '    [|' + message['role'] + '|]' + message['content'] + '\\n        ' }}\
         {% if message['role'] != 'user' %}{{ '[|endofturn|]' }}{% endif %}{{ '\\n\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '    [|assistant|]\\n' }}{% endif %}",
    ),
    (
        "llama3",
        "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}\
         {{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\
         {{ message['content'] | trim + '<|eot_id|>\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    ),
    (
        "mistral",
        "{{ bos_token }}{% if messages and messages[0]['role'] == 'system' %}\
         {% set system = messages[0]['content'] + '\\n\\n' %}{% set turns = messages[1:] %}\
         {% else %}{% set system = '' %}{% set turns = messages %}{% endif %}\
         {% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
         {{ raise_exception('behind a system message, user and assistant take turns, the user first') }}{% endif %}\
         {% if message['role'] == 'user' %}\
         {{ ' [INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}\
         {% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}\
         {% else %}{{ raise_exception('only user and assistant can follow a system message') }}{% endif %}\
         {% endfor %}",
    ),
];

/// A text shorter than this is taken for a misspelt name, not for a template.
pub const SHORTEST_JINJA: usize = 20;

/// Reads a stage's `chat_template`; `None` if it is neither a known name nor a template.
pub fn parse(text: &str) -> Option<ChatTemplate> {
    if text == "auto" {
        return Some(ChatTemplate::Auto);
    }
    let is_path = ["./", "../", "/"].iter().any(|start| text.starts_with(start))
        || [".jinja", ".jinja2", ".j2"].iter().any(|end| text.ends_with(end));
    if is_path && !text.contains(['{', '\n']) {
        return Some(ChatTemplate::File(text.to_owned()));
    }
    let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, template)| *template);
    let jinja = || (text.len() >= SHORTEST_JINJA && text.contains('{')).then_some(text);
    named.or_else(jinja).map(|template| ChatTemplate::Jinja(template.to_owned()))
}

/// The names that a `chat_template` can have.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name).chain(["auto"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_templates_are_told_from_slips() {
        assert_eq!(parse("auto"), Some(ChatTemplate::Auto));
        assert!(matches!(parse("chatml"), Some(ChatTemplate::Jinja(text)) if text.contains("<|im_start|>")));
        let own = "{% for m in messages %}{{ m }}{% endfor %}";
        assert_eq!(parse(own), Some(ChatTemplate::Jinja(own.to_owned())));
        for file in ["./t.txt", "../x", "/t", "chat.jinja", "a/b.j2"] {
            assert_eq!(parse(file), Some(ChatTemplate::File(file.to_owned())));
        }
        assert!(matches!(parse("/{{ a template with a slash }}"), Some(ChatTemplate::Jinja(_))));
        for slip in ["chatlm", "{{ short }}", "a long text that is no template"] {
            assert_eq!(parse(slip), None, "{slip}");
        }
    }
}

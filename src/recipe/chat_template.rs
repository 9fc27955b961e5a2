//! Chat templates: by name, in full, or whichever the models use most.

/// What a stage's `chat_template` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// The template that most of the stage's models have.
    Auto,
    /// A Jinja template.
    Jinja(String),
}

/// Templates that go by a name.
const NAMED: [(&str, &str); 5] = [
    (
        "alpaca",
        "{{ bos_token }}{% for message in messages %}\
         {% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}\
         {% elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}\
         {% elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] + eos_token }}\
         {% endif %}{% endfor %}\
         {% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
    ),
    (
        "chatml",
        "{% for message in messages %}\
         {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "exaone",
        "{% for message in messages %}{{ '[|' + message['role'] + '|]' + message['content'] }}\
         {% if message['role'] != 'user' %}{{ '[|endofturn|]' }}{% endif %}{{ '\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}",
    ),
    (
        "llama3",
        "{{ bos_token }}{% for message in messages %}\
         {{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\
         {{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    ),
    (
        "mistral",
        "{{ bos_token }}{% for message in messages %}\
         {% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}\
         {% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}",
    ),
];

/// A text shorter than this is taken for a misspelt name, not for a template.
const SHORTEST_JINJA: usize = 20;

/// Reads a stage's `chat_template`; `None` if it is neither a known name nor a template.
pub fn parse(text: &str) -> Option<ChatTemplate> {
    if text == "auto" {
        return Some(ChatTemplate::Auto);
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
        for slip in ["chatlm", "{{ short }}", "a long text that is no template"] {
            assert_eq!(parse(slip), None, "{slip}");
        }
    }
}

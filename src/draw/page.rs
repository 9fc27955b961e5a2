//! The frame that every HTML page shares.
//!
//! A page is one file that opens from a disk. Its policy forbids all requests, so that a browser holds it to that.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

/// Colours for light and dark, type, tables.
const STYLE: &str = include_str!("page.css");

/// Nothing is fetched; styles and scripts are those in the file.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// A page.
pub struct Page<'a> {
    /// Also the first heading.
    pub title: &'a str,
    /// One sentence under the heading.
    pub summary: Markup,
    pub body: Markup,
    /// Styles beside the frame's own.
    pub style: &'a str,
    /// Scripts, run in this order when all else is there.
    pub scripts: &'a [&'a str],
}

impl Page<'_> {
    /// The whole file.
    pub fn html(&self) -> String {
        let Self { title, summary, body, style, scripts } = self;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content={ "lamarck " (env!("CARGO_PKG_VERSION")) };
                    // Without one, browsers ask for /favicon.ico.
                    link rel="icon" href="data:,";
                    title { (title) }
                    style { (PreEscaped(STYLE)) (PreEscaped(style)) }
                }
                body {
                    header { h1 { (title) } p.summary { (summary) } }
                    main { (body) }
                    @for script in *scripts { script { (PreEscaped(script)) } }
                }
            }
        };
        page.into_string()
    }
}

/// Data for a page's scripts, which find it by its id.
pub fn data(id: &str, value: &Value) -> Markup {
    // A script ends at the first `</script`, also within a string.
    let text = value.to_string().replace('<', "\\u003c");
    html! { script type="application/json" id=(id) { (PreEscaped(text)) } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_cannot_break_out() {
        let evil = "</script><script>alert(1)</script>";
        let page = Page {
            title: evil,
            summary: html! { (evil) },
            body: data("data", &json!({ "name": evil })),
            style: "",
            scripts: &[],
        };
        let text = page.html();
        assert!(!text.contains("<script>alert"), "{text}");
        let data = text.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(data).unwrap()["name"], evil);
    }
}

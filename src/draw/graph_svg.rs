//! The graph of stages as an SVG: a file of its own, or a part of an HTML page.

use maud::{Markup, PreEscaped, html};

use super::fit::{width, wrap};
use super::graph::{Edge, Graph, Node, Stage};
use super::layout::{Item, Layout, Line, Point, Size, lay_out};
use super::numbers::{bytes, counted};

/// Styles of the picture, by the colours that pages have.
pub const STYLE: &str = include_str!("graph_svg.css");

/// Those colours, for a picture on its own.
const COLOURS: &str = include_str!("graph_colours.css");

/// A line of text: its class, its size, and whether it is bold.
#[derive(Clone, Copy)]
struct Type {
    class: &'static str,
    size: f64,
    is_bold: bool,
}

const NAME: Type = Type { class: "name", size: 13.0, is_bold: true };
const OWNER: Type = Type { class: "small", size: 11.0, is_bold: false };
const METHOD: Type = Type { class: "method", size: 12.0, is_bold: false };
const VERDICT: Type = Type { class: "verdict", size: 11.5, is_bold: true };
const COUNT: Type = Type { class: "small", size: 11.0, is_bold: false };
const LABEL: Type = Type { class: "label", size: 11.0, is_bold: false };

/// From one line to the next, as a share of the size.
const LEADING: f64 = 1.32;
const PADDING: Size = Size { width: 14.0, height: 9.0 };
/// The widest text of a box.
const MAX_TEXT: f64 = 176.0;
const MIN_WIDTH: f64 = 84.0;
const ARROW: Size = Size { width: 7.0, height: 7.0 };

/// What is written in a box or at a line, with the room that it takes.
struct Text {
    lines: Vec<(Type, String)>,
    size: Size,
}

impl Text {
    fn new(lines: Vec<(Type, String)>) -> Self {
        let room = |(kind, text): &(Type, String)| width(text, kind.size, kind.is_bold);
        let height = lines.iter().map(|(kind, _)| kind.size * LEADING).sum();
        let size = Size { width: lines.iter().map(room).fold(0.0, f64::max).ceil(), height };
        Self { lines, size }
    }

    fn of_node(node: &Node) -> Self {
        let wrapped = |kind: Type, text: &str| {
            let lines = wrap(text, MAX_TEXT, kind.size, kind.is_bold);
            lines.into_iter().map(move |line| (kind, line))
        };
        let mut lines = Vec::new();
        match node.label.split_once('/') {
            Some((owner, name)) if !owner.is_empty() && !name.is_empty() => {
                lines.extend(wrapped(OWNER, &format!("{owner}/")));
                lines.extend(wrapped(NAME, name));
            }
            _ => lines.extend(wrapped(NAME, &node.label)),
        }
        if let Some(stage) = &node.stage {
            lines.extend(wrapped(METHOD, &method(stage)));
            if let Some(work) = &stage.work {
                lines.extend(wrapped(VERDICT, &work.words()));
                let count = format!("{}, {}", counted(work.tensors, "tensor"), bytes(work.bytes));
                lines.extend(wrapped(COUNT, &count));
            }
        }
        Self::new(lines)
    }

    fn of_edge(edge: &Edge) -> Self {
        Self::new(edge.lines().into_iter().map(|line| (LABEL, line)).collect())
    }

    /// The lines, around a middle and from an upper end on.
    fn draw(&self, middle: f64, top: f64) -> Markup {
        let mut y = top;
        let lines: Vec<(f64, &(Type, String))> = self
            .lines
            .iter()
            .map(|line| {
                let height = line.0.size * LEADING;
                y += height;
                // The base line, from which letters hang down a fifth.
                (y - (height - line.0.size) / 2.0 - line.0.size * 0.2, line)
            })
            .collect();
        html! {
            @for (y, (kind, line)) in lines {
                text.(kind.class) x=(number(middle)) y=(number(y)) font-size=(kind.size) { (line) }
            }
        }
    }
}

/// The method, with the one shared parameter that is the merge itself.
fn method(stage: &Stage) -> String {
    match stage.settings.iter().find(|setting| setting.name == "t") {
        Some(t) => format!("{}, {t}", stage.method),
        None => stage.method.to_owned(),
    }
}

/// A whole SVG file, which follows the reader's choice of light or dark.
pub fn file(graph: &Graph, title: &str) -> String {
    let picture = Picture::of(graph);
    let Size { width, height } = picture.layout.size;
    let svg = html! {
        svg.lamarck-graph xmlns="http://www.w3.org/2000/svg" viewBox=(view_box(picture.layout.size))
            width=(number(width)) height=(number(height)) role="img" aria-labelledby="title desc" {
            title id="title" { (title) }
            desc id="desc" { (told(graph)) }
            style { (PreEscaped(COLOURS)) (PreEscaped(STYLE)) }
            rect.paper x="0.5" y="0.5" width=(number(width - 1.0)) height=(number(height - 1.0)) rx="8" {}
            (picture.draw(&|_| None))
        }
    };
    svg.into_string() + "\n"
}

/// The picture within an HTML page, which has [`STYLE`] among its styles: every stage's group has its name as
/// `data-stage` and leads to where `link` says.
pub fn inline(graph: &Graph, title: &str, link: &dyn Fn(&str) -> Option<String>) -> Markup {
    let picture = Picture::of(graph);
    let Size { width, height } = picture.layout.size;
    html! {
        svg.lamarck-graph viewBox=(view_box(picture.layout.size)) width=(number(width)) height=(number(height))
            role="group" aria-label=(title) {
            (picture.draw(link))
        }
    }
}

struct Picture<'a> {
    graph: &'a Graph,
    /// Of the nodes and of the edges.
    boxes: Vec<Text>,
    labels: Vec<Text>,
    layout: Layout,
    items: Vec<Item>,
}

impl<'a> Picture<'a> {
    fn of(graph: &'a Graph) -> Self {
        let boxes: Vec<Text> = graph.nodes.iter().map(Text::of_node).collect();
        let labels: Vec<Text> = graph.edges.iter().map(Text::of_edge).collect();
        let item = |(place, (node, text)): (usize, (&Node, &Text))| {
            let width = (text.size.width + 2.0 * PADDING.width).max(MIN_WIDTH);
            let size = Size { width, height: (text.size.height + 2.0 * PADDING.height).ceil() };
            let n_readers = graph.edges.iter().filter(|edge| edge.from == place).count();
            Item { size, may_rise: node.stage.is_none() && n_readers == 1 }
        };
        let items: Vec<Item> = graph.nodes.iter().zip(&boxes).enumerate().map(item).collect();
        let line = |(edge, text): (&Edge, &Text)| Line { from: edge.from, to: edge.to, label: text.size };
        let lines: Vec<Line> = graph.edges.iter().zip(&labels).map(line).collect();
        let layout = lay_out(&items, &lines);
        Self { graph, boxes, labels, layout, items }
    }

    fn draw(&self, link: &dyn Fn(&str) -> Option<String>) -> Markup {
        let Self { graph, labels, layout, .. } = self;
        html! {
            @for (edge, route) in graph.edges.iter().zip(&layout.routes) { (self.edge(edge, route)) }
            @for (text, centre) in labels.iter().zip(&layout.labels) { (label(text, *centre)) }
            @for (place, node) in graph.nodes.iter().enumerate() {
                @match node.stage.as_ref().and_then(|_| link(&node.name)) {
                    Some(address) => a href=(address) { (self.node(place, node)) },
                    None => (self.node(place, node)),
                }
            }
        }
    }

    fn edge(&self, edge: &Edge, route: &[[Point; 2]]) -> Markup {
        let [from, to] = [edge.from, edge.to].map(|node| self.graph.nodes[node].name.as_str());
        let what = edge.lines().join(", ");
        let end = route.last().expect("every line has ends")[1];
        let left = end.x - ARROW.width / 2.0;
        let head = format!(
            "M{} {}h{}l{} {}z",
            number(left),
            number(end.y - ARROW.height),
            number(ARROW.width),
            number(-ARROW.width / 2.0),
            number(ARROW.height)
        );
        html! {
            g.edge.base[edge.is_base && !edge.is_input] {
                title { (from) " \u{2192} " (to) @if !what.is_empty() { ": " (what) } }
                path.line d=(path(route)) {}
                path.head d=(head) {}
            }
        }
    }

    fn node(&self, place: usize, node: &Node) -> Markup {
        let (corner, size, text) = (self.layout.corners[place], self.items[place].size, &self.boxes[place]);
        let middle = corner.x + size.width / 2.0;
        let top = corner.y + (size.height - text.size.height) / 2.0;
        let kind = match &node.stage {
            None => "node source".to_owned(),
            Some(Stage { work: Some(work), .. }) => format!("node stage {}", work.verdict().word()),
            Some(_) => "node stage".to_owned(),
        };
        let radius = if node.stage.is_some() { 6.0 } else { (size.height / 2.0).min(22.0) };
        html! {
            g class=(kind) id={ "graph-node-" (place) } data-stage=[node.stage.as_ref().map(|_| &node.name)] {
                title { (node.name) @if let Some(stage) = &node.stage { " (" (method(stage)) ")" } }
                rect x=(number(corner.x)) y=(number(corner.y)) width=(number(size.width))
                    height=(number(size.height)) rx=(number(radius)) {}
                (text.draw(middle, top))
            }
        }
    }
}

/// A label, before which its line stands back.
fn label(text: &Text, centre: Point) -> Markup {
    let Size { width, height } = text.size;
    if text.lines.is_empty() {
        return html! {};
    }
    let top = centre.y - height / 2.0;
    html! {
        rect.back x=(number(centre.x - width / 2.0)) y=(number(top)) width=(number(width)) height=(number(height)) {}
        (text.draw(centre.x, top))
    }
}

/// A line that runs down its stretches and bends between them.
fn path(route: &[[Point; 2]]) -> String {
    let start = route[0][0];
    let mut path = format!("M{} {}", number(start.x), number(start.y));
    for (at, [from, to]) in route.iter().enumerate() {
        if at > 0 {
            let before = route[at - 1][1];
            let middle = f64::midpoint(before.y, from.y);
            path.push_str(&if before.x == from.x {
                format!("V{}", number(from.y))
            } else {
                let (x1, x2, y) = (number(before.x), number(from.x), number(middle));
                format!("C{x1} {y} {x2} {y} {x2} {}", number(from.y))
            });
        }
        // The head ends the line.
        let y = if at + 1 == route.len() { to.y - ARROW.height + 1.0 } else { to.y };
        if y > from.y {
            path.push_str(&format!("V{}", number(y)));
        }
    }
    path
}

/// The graph in sentences, for those who do not see it.
fn told(graph: &Graph) -> String {
    let sentence = |(place, node, stage): (usize, &Node, &Stage)| {
        let inputs: Vec<String> = graph
            .inputs(place)
            .map(|edge| {
                let (name, lines) = (&graph.nodes[edge.from].name, edge.lines());
                if lines.is_empty() { name.clone() } else { format!("{name} ({})", lines.join(", ")) }
            })
            .collect();
        let work = stage.work.as_ref().map_or_else(String::new, |work| format!(" It {}.", is(&work.words())));
        format!("{} merges by {}: {}.{work}", node.name, method(stage), inputs.join("; "))
    };
    graph.stages().map(sentence).collect::<Vec<_>>().join(" ")
}

fn is(words: &str) -> String {
    if words == "reused" { "is reused".to_owned() } else { format!("is out of date: {words}") }
}

fn view_box(size: Size) -> String {
    format!("0 0 {} {}", number(size.width), number(size.height))
}

/// A coordinate to a tenth of a pixel.
fn number(value: f64) -> f64 {
    let rounded = (value * 10.0).round() / 10.0;
    // There is no -0.
    rounded + 0.0
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Extent, Work};
    use super::*;

    fn graph() -> Graph {
        let node = |name: &str| Node { name: name.into(), label: name.into(), stage: None };
        let work = Some(Work { is_done: false, tensors: 3, bytes: 4000, run: 1, if_changed: 0, reuse: 2 });
        let stage = Stage { method: "ties", settings: Vec::new(), work };
        Graph {
            nodes: vec![node("org/<base>"), node("a-name"), Node { stage: Some(stage), ..node("out") }],
            edges: vec![
                Edge { from: 0, to: 2, is_base: true, ..Edge::default() },
                Edge { from: 1, to: 2, is_input: true, weight: Extent::of([0.5]), ..Edge::default() },
            ],
        }
    }

    #[test]
    fn the_file_stands_alone_and_says_everything_in_words() {
        let svg = file(&graph(), "How \"out\" is merged");
        assert!(
            svg.starts_with("<svg ") && svg.contains("role=\"img\"") && svg.contains("prefers-color-scheme")
        );
        for said in ["1 of 3 must run", "3 tensors, 4.0 kB", "weight 0.5", "&lt;base&gt;", ">base</text>"] {
            assert!(svg.contains(said), "{said}: {svg}");
        }
        assert!(
            svg.contains(
                "<desc id=\"desc\">out merges by ties: org/&lt;base&gt; (base); a-name (weight 0.5)."
            )
        );
        assert!(!svg.contains("http") || svg.matches("http").count() == 1, "only its name space");
        assert_eq!(svg, file(&graph(), "How \"out\" is merged"));
    }

    #[test]
    fn stages_within_a_page_can_be_found_and_lead_on() {
        let svg = inline(&graph(), "Stages", &|name| Some(format!("#stage-{name}"))).into_string();
        assert!(
            svg.contains("<a href=\"#stage-out\"><g class=\"node stage part\"")
                && svg.contains("data-stage=\"out\"")
        );
        assert_eq!(svg.matches("<a ").count(), 1, "models lead nowhere");
        assert!(!svg.contains("<style>"));
    }
}

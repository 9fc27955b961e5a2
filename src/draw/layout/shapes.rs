//! What is placed, and where it is then.

/// Width and height, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    pub width: f64,
    pub height: f64,
}

/// A box to place.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub size: Size,
    /// Whether it may move up a layer where its own is too wide.
    pub may_rise: bool,
}

/// A line from a box to one further down.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub from: usize,
    pub to: usize,
    /// Of what is written at its end; zero if nothing is.
    pub label: Size,
}

/// A point, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Layout {
    pub size: Size,
    /// The upper left corners of the boxes.
    pub corners: Vec<Point>,
    /// For each line the stretches that it runs straight down, from the upper box's lower edge to the lower one's upper
    /// edge; between them it bends.
    pub routes: Vec<Vec<[Point; 2]>>,
    /// The centre of each line's label.
    pub labels: Vec<Point>,
}

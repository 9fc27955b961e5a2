//! Experts that an adapter names one by one, where a model has them in one tensor, and the reverse.

/// A matrix of one expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expert<'a> {
    /// What all experts of a layer stand in, such as `model.layers.0.mlp.experts`, as the adapter calls it.
    pub folder: &'a str,
    pub number: usize,
    pub matrix: Matrix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    Gate,
    Up,
    Down,
}

/// What the matrices of an expert are called, by family.
const NAMES: [(&str, Matrix); 6] = [
    ("w1", Matrix::Gate),
    ("w3", Matrix::Up),
    ("w2", Matrix::Down),
    ("gate_proj", Matrix::Gate),
    ("up_proj", Matrix::Up),
    ("down_proj", Matrix::Down),
];

impl<'a> Expert<'a> {
    /// Reads a module's name such as `model.layers.0.block_sparse_moe.experts.3.w1`.
    pub fn parse(module: &'a str) -> Option<Self> {
        let (rest, name) = module.rsplit_once('.')?;
        let (folder, number) = rest.rsplit_once('.')?;
        let (_, matrix) = NAMES.iter().find(|(known, _)| *known == name)?;
        folder.ends_with("experts").then_some(Self { folder, number: number.parse().ok()?, matrix: *matrix })
    }

    /// What a tensor with the matrices of all experts would be called.
    pub fn fused(&self) -> String {
        let folder = self.folder.replace("block_sparse_moe", "mlp");
        let name = match self.matrix {
            Matrix::Gate | Matrix::Up => "gate_up_proj",
            Matrix::Down => "down_proj",
        };
        format!("{folder}.{name}")
    }

    /// The rows of the matrix among those of all experts, where each expert has so many.
    pub fn rows(&self, each: usize) -> std::ops::Range<usize> {
        let start = self.number * each;
        match self.matrix {
            Matrix::Gate => start..start + each / 2,
            Matrix::Up => start + each / 2..start + each,
            Matrix::Down => start..start + each,
        }
    }
}

/// What the parts of an expert's matrices may be called in a model that has a tensor for each: the parts that lie one
/// behind the other in `fused`.
pub fn parts(fused: &str) -> &'static [&'static [&'static str]] {
    match fused {
        "gate_up_proj" => &[&["gate_proj", "w1"], &["up_proj", "w3"]],
        "down_proj" => &[&["down_proj", "w2"]],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_are_known_by_their_names() {
        let expert = Expert::parse("model.layers.0.block_sparse_moe.experts.3.w3").unwrap();
        assert_eq!((expert.number, expert.matrix), (3, Matrix::Up));
        assert_eq!(expert.fused(), "model.layers.0.mlp.experts.gate_up_proj");
        assert_eq!(expert.rows(48), 168..192);
        let expert = Expert::parse("model.layers.0.mlp.experts.1.down_proj").unwrap();
        assert_eq!(
            (expert.fused().as_str(), expert.rows(16)),
            ("model.layers.0.mlp.experts.down_proj", 16..32)
        );
        assert_eq!(Expert::parse("model.layers.0.mlp.shared_expert.up_proj"), None);
    }
}

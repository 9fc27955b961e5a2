//! Examples at the end of each command's help.

macro_rules! examples {
    ($($line:literal)*) => { concat!("\x1b[1m\x1b[4mExamples:\x1b[0m", $("\n  ", $line),*) };
}

macro_rules! as_mergekit {
    ($line:literal) => {
        concat!(
            "mergekit's other options are accepted; a note lists those without effect.\n\n",
            examples!($line)
        )
    };
}

pub const LAMARCK: &str = examples!(
    "lamarck new my-merge --template ties   start a project"
    "lamarck build                          build its recipe"
    "lamarck plan                           after an edit: what would run, and why"
);
pub const BUILD: &str = examples!(
    "lamarck build recipes/mine.yaml"
    "lamarck build --set weight=0.6 --out trials/weight-06"
    "lamarck build --from best --out before   write a tagged build again"
);
pub const FETCH: &str = examples!("lamarck fetch recipes/mine.yaml");
pub const PLAN: &str = examples!(
    "lamarck plan recipes/mine.yaml"
    "lamarck plan --set weight=0.6"
    "lamarck plan --exit-code || echo \"there is work to do\""
);
pub const WATCH: &str = examples!(
    "lamarck watch recipes/mine.yaml"
    "lamarck watch --build --set weight=0.6"
);
pub const EXPLAIN: &str = examples!(
    "lamarck explain recipes/mine.yaml"
    "lamarck explain --tensor layers.20.mlp.up"
);
pub const CHECK: &str = examples!(
    "lamarck check recipes/mine.yaml"
    "lamarck check --deny-warnings"
);
pub const GRAPH: &str = examples!(
    "lamarck graph recipes/mine.yaml"
    "lamarck graph --format svg > stages.svg"
);
pub const INSPECT: &str = examples!(
    "lamarck inspect Qwen/Qwen2.5-14B"
    "lamarck inspect merges/mine --stats"
);
pub const DIFF: &str = examples!(
    "lamarck diff merges/before merges/after"
    "lamarck diff 11 12 --html diff.html"
    "lamarck diff recipes/mine.yaml#branch org/base --top 20"
);
pub const LOG: &str = examples!(
    "lamarck log"
    "lamarck log recipes/mine.yaml -n 3"
);
pub const REPORT: &str = examples!(
    "lamarck report                     the newest build"
    "lamarck report best -o best.html"
);
pub const SHOW: &str = examples!(
    "lamarck show             the newest build"
    "lamarck show 12"
    "lamarck show best --recipe > recipes/best.yaml"
);
pub const TAG: &str = examples!(
    "lamarck tag 12 best --note \"clear prose\""
    "lamarck tag              all tags"
    "lamarck tag --delete best"
);
pub const VERIFY: &str = examples!(
    "lamarck verify merges/mine"
    "lamarck verify merges/mine --rebuild"
);
pub const CACHE: &str = examples!(
    "lamarck cache stat"
    "lamarck cache gc --max-size 50GB"
);
pub const CACHE_STAT: &str = examples!("lamarck cache stat");
pub const CACHE_GC: &str = examples!(
    "lamarck cache gc            what could go"
    "lamarck cache gc --max-size 50GB"
    "lamarck cache gc --max-age 30d --dry-run"
);
pub const CACHE_VERIFY: &str = examples!("lamarck cache verify --repair");
pub const CACHE_PATH: &str = examples!("du -sh \"$(lamarck cache path)\"");
pub const METHODS: &str = examples!(
    "lamarck methods"
    "lamarck methods della"
);
pub const SCHEMA: &str = examples!("lamarck schema > recipe.schema.json");
pub const NEW: &str = examples!(
    "lamarck new my-merge --template ties"
    "lamarck new   a slerp in the working directory"
);
pub const COMPLETIONS: &str = examples!(
    "source <(lamarck completions bash)   in ~/.bashrc"
    "source <(lamarck completions zsh)    in ~/.zshrc, after compinit"
    "lamarck completions fish | source    in ~/.config/fish/config.fish"
);
pub const MAN: &str = examples!(
    "lamarck man ~/.local/share/man/man1"
    "man lamarck-build"
);
pub const MERGEKIT_YAML: &str = as_mergekit!("lamarck mergekit-yaml recipe.yaml out --random-seed 7");
pub const MERGEKIT_MULTI: &str = as_mergekit!("lamarck mergekit-multi recipe.yaml -I stages --out-path out");
pub const MERGEKIT_PYTORCH: &str = as_mergekit!("lamarck mergekit-pytorch recipe.yaml out");

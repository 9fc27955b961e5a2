//! The facade: from a recipe's file to a plan, its status, a build and its record.
//!
//! A [`Project`] says where things are. It opens the models that a recipe refers to as a [`Catalog`], which is
//! planned; what is [`Planned`] can be looked at or carried out by a [`Builder`]. The facade wires the layers
//! together; it does not print, and it takes from its caller whatever comes from the environment.

mod account;
mod beside;
mod builder;
mod built;
mod catalog;
#[cfg(test)]
mod collecting;
mod delivery;
mod diff;
mod error;
#[cfg(test)]
mod faults;
mod fingerprint;
mod forecast;
#[cfg(test)]
mod guests;
mod history;
mod inspect;
mod kept;
mod locate;
mod meeting;
mod missing;
mod planned;
mod pledges;
mod proof;
mod recording;
mod records;
mod report;
mod room;
mod settings;
mod statistics;
mod status;
mod store;
mod stored;
mod work;

pub use crate::build::{Policy, Why};
pub use crate::output::content::LeftOut;
pub use builder::Builder;
pub use built::{OutputReport, Report};
pub use catalog::Catalog;
pub use diff::{ComparedTensor, Comparison, Likeness, Origin, Side};
pub use error::ProjectError;
pub use fingerprint::{Asked, Request, Sighting};
pub use forecast::{Estimate, Forecast, StageForecast};
pub use history::{Edits, RecordedBuild};
pub use inspect::digests;
pub use locate::Reach;
pub use planned::Planned;
pub use proof::damage;
pub use report::{BuildStatistics, Moved, StageStatistics, StatisticsPlan, TargetStatistics};
pub use room::Room;
pub use settings::Project;
pub use statistics::{OutputStatistics, TensorChange};
pub use status::Status;
pub use store::Watch;
pub use stored::Unstored;
pub use work::StageWork;

//! The widest vectors of the processor at hand, without compiling for it.
//!
//! `vectorized!` compiles a function once for each [`Level`] and calls the best one that the processor
//! has. All give the same bits: the loops are plain IEEE arithmetic in a fixed order, and wider vectors
//! only do more of it at a time; compilers fuse or reorder nothing unless told to.

#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

/// What loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What every processor of the target has: SSE2, or NEON.
    Baseline,
    Avx2,
    Avx512,
}

/// A level plus one; 0 until the processor was asked.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// The level in use.
#[inline]
pub fn level() -> Level {
    match CHOSEN.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => limit(Level::Avx512),
    }
}

/// Uses the best level of the processor up to `most` from now on, and tells which that is.
pub fn limit(most: Level) -> Level {
    let level = detected().min(most);
    CHOSEN.store(level as u8 + 1, Ordering::Relaxed);
    level
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Level {
    macro_rules! has {
        ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
    }
    let avx2 = has!("avx2" "bmi1" "bmi2" "lzcnt" "popcnt");
    if avx2 && has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl") {
        Level::Avx512
    } else if avx2 {
        Level::Avx2
    } else {
        Level::Baseline
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Level {
    Level::Baseline
}

/// Defines functions that are compiled for every level. Their loops must be written out in the body or
/// in functions that are always inlined. They may be generic over one type, and one number behind it.
macro_rules! vectorized {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident
            $(<$generic:ident: $bound:path $(, const $count:ident: usize)?>)?
            ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name $(<$generic: $bound $(, const $count: usize)?>)? (
            $($argument: $type),*
        ) $(-> $result)? {
            #[inline(always)]
            fn body $(<$generic: $bound $(, const $count: usize)?>)? ($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            {
                use $crate::kernels::simd::{Level, level};
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                fn avx512 $(<$generic: $bound $(, const $count: usize)?>)? ($($argument: $type),*) $(-> $result)? {
                    body($($argument),*)
                }
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2 $(<$generic: $bound $(, const $count: usize)?>)? ($($argument: $type),*) $(-> $result)? {
                    body($($argument),*)
                }
                match level() {
                    // SAFETY: a level is in use only if the processor was found to have its features.
                    Level::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { avx2($($argument),*) },
                    Level::Baseline => {}
                }
            }
            body($($argument),*)
        }
    )*};
}

pub(crate) use vectorized;

/// Elements that loops over several arrays take at a time, so that what they add up stays in a core's
/// nearest cache.
const SHORT_RUN: usize = 1024;

/// Cuts a result into short runs, each with the range of elements that it covers.
#[inline(always)]
pub fn short_runs<T>(out: &mut [T]) -> impl Iterator<Item = (Range<usize>, &mut [T])> {
    out.chunks_mut(SHORT_RUN).enumerate().map(|(i, run)| (i * SHORT_RUN..i * SHORT_RUN + run.len(), run))
}

/// Runs `work` at every level of this processor, one after the other.
#[cfg(test)]
pub fn at_every_level(mut work: impl FnMut(Level)) {
    use std::sync::Mutex;

    // Tests run side by side, but those that ask for levels do so one at a time. Others do not care.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for most in [Level::Baseline, Level::Avx2, Level::Avx512] {
        if limit(most) == most {
            work(most);
        }
    }
    limit(Level::Avx512);
}

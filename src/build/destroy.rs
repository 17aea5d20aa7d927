//! Takes away what meshplan made in clusters, and nothing else: first a list, then, when somebody agreed to
//! it, the removal in that order. Files stay.

use std::thread;

use super::{Site, fleet::Fleet, verify::Eyes};
use crate::{
    action::cluster::{self, Allowed, Removal, StepError, Target},
    plan::model::Cluster,
};

/// What goes from one cluster.
#[derive(Debug)]
pub struct Farewell {
    /// Its place in the plan.
    place: usize,
    /// Its name.
    pub cluster: String,
    /// What goes, in order.
    pub removals: Vec<Removal>,
}

/// Finds what meshplan made in the clusters of these names, or in all that have a context: first what others
/// hold of them, then remotes, then primaries.
///
/// # Errors
/// A cluster has no context, or cannot be asked.
pub fn survey(site: &Site, names: &[String]) -> Result<Vec<Farewell>, String> {
    let plan = &site.plan;
    let of_these = |c: &&Cluster| names.contains(&c.name) && c.context.is_none();
    if let Some(cluster) = plan.clusters.iter().find(of_these) {
        return Err(format!("cluster {} has no context", cluster.name));
    }
    let in_reach = |place: &usize| plan.clusters[*place].context.is_some();
    let gone = |place: usize| names.is_empty() || names.contains(&plan.clusters[place].name);
    let places: Vec<usize> = (0..plan.clusters.len()).filter(in_reach).collect();
    let mut going: Vec<usize> = places.iter().copied().filter(|p| gone(*p)).collect();
    going.sort_by_key(|p| plan.clusters[*p].remote_of.is_none());
    let gone: Vec<&str> = going
        .iter()
        .map(|p| plan.clusters[*p].name.as_str())
        .collect();
    let fleet = Fleet::new(site, Vec::new(), false, false);
    let ask = |place: usize, goes: bool| -> Result<Farewell, StepError> {
        let mut hands = Eyes {
            site,
            fleet: &fleet,
        };
        // Every place here has a context.
        let target = Target::new(plan, place, Allowed::default());
        let removals = match &target {
            Some(target) if goes => cluster::made(&gone, target, &site.tools, &mut hands)?,
            Some(target) => cluster::held_for(&gone, target, &site.tools, &mut hands)?,
            None => Vec::new(),
        };
        let cluster = plan.clusters[place].name.clone();
        Ok(Farewell {
            place,
            cluster,
            removals,
        })
    };
    let asked: Vec<_> = thread::scope(|scope| {
        let all = places
            .iter()
            .map(|p| (*p, false))
            .chain(going.iter().map(|p| (*p, true)));
        let ask = &ask;
        let asked: Vec<_> = all
            .map(|(place, goes)| scope.spawn(move || ask(place, goes)))
            .collect();
        asked.into_iter().filter_map(|a| a.join().ok()).collect()
    });
    let mut found = Vec::new();
    for answer in asked {
        let farewell = answer.map_err(|e| e.cause)?;
        if !farewell.removals.is_empty() {
            found.push(farewell);
        }
    }
    Ok(found)
}

/// Takes away what was found, telling each removal before it is done.
///
/// # Errors
/// What could not be taken away; what stands behind it in the list is still there.
pub fn carry_out(
    site: &Site,
    found: &[Farewell],
    tell: &mut dyn FnMut(&str, &str),
) -> Result<(), String> {
    let places = found.iter().map(|f| f.place).collect();
    let fleet = Fleet::new(site, places, false, false);
    let mut hands = Eyes {
        site,
        fleet: &fleet,
    };
    let done = found.iter().try_for_each(|farewell| {
        let Some(target) = Target::new(&site.plan, farewell.place, Allowed::default()) else {
            return Ok(());
        };
        fleet.hold(&target, &site.tools, &mut hands)?;
        farewell.removals.iter().try_for_each(|removal| {
            tell(&farewell.cluster, &removal.what);
            cluster::remove(removal, &target, &site.tools, &mut hands)
        })
    });
    fleet.give_back(site);
    done.map_err(|e: StepError| match e.stderr.trim() {
        "" => e.cause,
        said => format!("{}\n{said}", e.cause),
    })
}

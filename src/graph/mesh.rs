//! The plan's mesh as something to draw. It holds the picture's rules of topology: who reads whom, and
//! who has an east-west gateway. It knows nothing of how a picture looks.

use std::collections::HashSet;

use super::{
    Graph, TaskId,
    draw::{
        State,
        mesh::{Cluster, Mesh, Root},
    },
};
use crate::plan::model::{Plan, RootCa};

/// The mesh of a plan. `state` says what the cluster at a place of the plan is in, and why.
pub fn mesh(plan: &Plan, state: &dyn Fn(usize) -> Option<(State, String)>) -> Mesh {
    let clusters = &plan.clusters;
    let networks: HashSet<_> = clusters.iter().map(|c| &c.network).collect();
    let place = |name: &str| clusters.iter().position(|c| c.name == name);
    let primaries: Vec<_> = clusters
        .iter()
        .map(|c| c.remote_of.as_deref().and_then(place))
        .collect();
    let drawn = clusters.iter().enumerate().map(|(i, cluster)| {
        let (state, why) = state(i).unwrap_or((State::Unknown, String::new()));
        let context = cluster.context.as_ref().map(|c| format!("context {c}"));
        let note = context.into_iter().chain((!why.is_empty()).then_some(why));
        Cluster {
            name: cluster.name.clone(),
            network: cluster.network.clone(),
            primary: primaries[i],
            // Facts §4.2 and §4.3: traffic between networks, and a remote's way to its istiod.
            gateway: networks.len() > 1 || primaries.contains(&Some(i)),
            root: Some(0),
            state,
            note: note.collect::<Vec<_>>().join("\n"),
        }
    });
    let readers = (0..clusters.len()).filter(|&i| clusters[i].remote_of.is_none());
    let reads = readers.flat_map(|a| (0..clusters.len()).map(move |b| (a, b)));
    // A plan of tasks alone asks for no CA.
    let rooted = !clusters.is_empty() || plan.root_span().is_some();
    Mesh {
        title: plan.file.to_string(),
        id: plan.mesh.id.clone(),
        roots: rooted.then(|| root(&plan.root)).into_iter().collect(),
        clusters: drawn.collect(),
        reads: reads.filter(|(a, b)| a != b).collect(),
    }
}

fn root(root: &RootCa) -> Root {
    let (name, role, note) = match root {
        RootCa::Made(ca) => {
            let subject = &ca.subject;
            let name = match subject.common_name.as_str() {
                "" => subject.organization.clone(),
                name => name.to_owned(),
            };
            (name, "root CA", format!("{}, {}", ca.key, ca.validity))
        }
        // Whether it is a root or a CA below one, only its certificate says.
        RootCa::Given(given) => {
            let name = given.cert.file_name().unwrap_or(given.cert.as_str());
            (name.to_owned(), "CA brought along", given.cert.to_string())
        }
    };
    Root {
        name,
        role: role.to_owned(),
        note,
    }
}

/// For each cluster of the plan the worst that its tasks are in, with the first task that is.
pub fn cluster_states(
    plan: &Plan,
    graph: &Graph,
    state: &dyn Fn(TaskId) -> Option<(State, String)>,
) -> Vec<Option<(State, String)>> {
    let mut worst: Vec<Option<(State, String)>> = vec![None; plan.clusters.len()];
    for id in graph.task_ids() {
        let task = graph.task(id);
        let Some((cluster, (state, why))) = task.action.cluster().zip(state(id)) else {
            continue;
        };
        let so_far = &mut worst[cluster];
        if so_far
            .as_ref()
            .is_none_or(|(old, _)| rank(state) > rank(*old))
        {
            let why = match why.as_str() {
                "" => String::new(),
                why => format!("{}: {why}", task.name),
            };
            *so_far = Some((state, why));
        }
    }
    worst
}

/// How bad a state is: what needs a decision comes before what the next run does by itself.
fn rank(state: State) -> u8 {
    match state {
        State::Unknown => 0,
        State::Current => 1,
        State::Undone => 2,
        State::Stale => 3,
        State::Refused => 4,
    }
}

//! Meshes for this module's tests.

use proptest::{collection::vec, option, prelude::*};

use super::{Cluster, Mesh, Root, State};

/// Primaries that read everything, remotes dealt out to them, all dealt out to networks.
pub(super) fn mesh(primaries: usize, remotes: usize, networks: usize) -> Mesh {
    let clusters = (0..primaries + remotes).map(|i| Cluster {
        name: format!("cluster{}", i + 1),
        network: Some(format!("network{}", i % networks + 1)),
        primary: (i >= primaries).then(|| (i - primaries) % primaries),
        gateway: networks > 1 || i < remotes,
        root: Some(0),
        state: State::Unknown,
        note: String::new(),
    });
    let clusters: Vec<_> = clusters.collect();
    let reads = (0..primaries).flat_map(|a| (0..clusters.len()).map(move |b| (a, b)));
    Mesh {
        title: "plans/demo.kdl".into(),
        id: "mesh1".into(),
        roots: vec![Root {
            name: "Root CA".into(),
            role: "root CA".into(),
            note: "rsa-4096".into(),
        }],
        reads: reads.filter(|(a, b)| a != b).collect(),
        clusters,
    }
}

/// One cluster where everything has that name.
pub(super) fn named(name: &str) -> Mesh {
    let mut mesh = mesh(1, 1, 1);
    (mesh.title, mesh.id) = (name.into(), name.into());
    (mesh.roots[0].name, mesh.roots[0].role) = (name.into(), name.into());
    mesh.clusters[0].name = name.into();
    mesh.clusters
        .iter_mut()
        .for_each(|c| c.network = Some(name.into()));
    mesh
}

/// Any mesh, sound or not.
pub(super) fn arbitrary() -> impl Strategy<Value = Mesh> {
    let name = prop_oneof!["[a-z0-9-]{1,12}", "\\PC{0,70}", Just("W".repeat(63))];
    let state = prop_oneof![
        Just(State::Unknown),
        Just(State::Current),
        Just(State::Refused)
    ];
    let network = option::of((0..5usize).prop_map(|n| format!("net-{n}")));
    let cluster = (
        name.clone(),
        network,
        option::of(0..14usize),
        any::<bool>(),
        option::of(0..3usize),
        state,
    );
    let cluster = cluster.prop_map(|(name, network, primary, gateway, root, state)| Cluster {
        name,
        network,
        primary,
        gateway,
        root,
        state,
        note: String::new(),
    });
    let root = name.prop_map(|name| Root {
        name,
        role: "root CA".into(),
        note: String::new(),
    });
    let whole = (
        vec(root, 0..3),
        vec(cluster, 0..14),
        vec((0..14usize, 0..14usize), 0..40),
        any::<bool>(),
    );
    whole.prop_map(|(roots, clusters, mut reads, complete)| {
        if complete {
            let all = 0..clusters.len();
            reads.extend(all.clone().flat_map(|a| all.clone().map(move |b| (a, b))));
        }
        Mesh {
            title: "plan.kdl".into(),
            id: "mesh1".into(),
            roots,
            clusters,
            reads,
        }
    })
}

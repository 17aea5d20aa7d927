//! Drawings for this module's tests.

use super::{Drawing, Edge, Kind, Node, State};

/// A root and `clusters` clusters with their files and steps; every second one is a remote of the first.
pub(super) fn mesh(clusters: usize) -> Drawing {
    let mut drawing = Drawing {
        title: "plans/demo.kdl".into(),
        ..Drawing::default()
    };
    let root_key = add(
        &mut drawing,
        "root-key.pem",
        None,
        Kind::Key,
        "private key of the root CA",
    );
    let root_cert = add(
        &mut drawing,
        "root-cert.pem",
        None,
        Kind::File,
        "trust anchor of the mesh",
    );
    needs(&mut drawing, root_cert, &[root_key], &[]);
    let mut ready = Vec::new();
    for i in 1..=clusters {
        let name = format!("cluster{i}");
        let mut node = |label: &str, kind| {
            let separator = if kind == Kind::Step { "-" } else { "/" };
            add(
                &mut drawing,
                &format!("{name}{separator}{label}"),
                Some(&name),
                kind,
                "",
            )
        };
        let files = [
            "ca-cert.pem",
            "cert-chain.pem",
            "root-cert.pem",
            "install.yaml",
        ];
        let key = node("ca-key.pem", Kind::Key);
        let [cert, chain, copy, install] = files.map(|f| node(f, Kind::File));
        let [namespace, secret, installed, is_ready] =
            ["namespace", "secret", "install", "ready"].map(|s| node(s, Kind::Step));
        needs(&mut drawing, cert, &[key, root_cert, root_key], &[]);
        needs(&mut drawing, chain, &[key, cert, root_cert], &[]);
        needs(&mut drawing, copy, &[root_cert], &[]);
        needs(
            &mut drawing,
            namespace,
            &[],
            &[key, cert, chain, copy, install],
        );
        needs(
            &mut drawing,
            secret,
            &[cert, key, chain, copy],
            &[namespace],
        );
        needs(&mut drawing, installed, &[install], &[secret]);
        needs(&mut drawing, is_ready, &[], &[installed]);
        if let (0, Some(&first)) = (i % 2, ready.first()) {
            needs(&mut drawing, installed, &[], &[first]);
        }
        ready.push(is_ready);
    }
    let test = add(&mut drawing, "tests/hello.sh", None, Kind::File, "");
    let smoke = add(
        &mut drawing,
        "smoke-test",
        None,
        Kind::Task,
        "runs `sh tests/hello.sh`",
    );
    let hello = add(&mut drawing, "out/hello.txt", None, Kind::File, "");
    needs(&mut drawing, smoke, &[test], &ready);
    needs(&mut drawing, hello, &[smoke], &[]);
    drawing
}

/// One file of that name, in a group of that name.
pub(super) fn labelled(label: &str) -> Drawing {
    let mut drawing = Drawing {
        title: label.into(),
        ..Drawing::default()
    };
    add(&mut drawing, label, None, Kind::File, label);
    drawing.nodes[0].group = Some(label.to_owned());
    drawing
}

pub(super) fn add(
    drawing: &mut Drawing,
    id: &str,
    group: Option<&str>,
    kind: Kind,
    note: &str,
) -> usize {
    let label = group
        .and_then(|g| id.strip_prefix(g))
        .map_or(id, |l| l.trim_start_matches(['/', '-']));
    let (id, label, note) = (id.to_owned(), label.to_owned(), note.to_owned());
    drawing.nodes.push(Node {
        id,
        label,
        kind,
        group: group.map(str::to_owned),
        state: State::Unknown,
        note,
    });
    drawing.nodes.len() - 1
}

pub(super) fn needs(drawing: &mut Drawing, to: usize, inputs: &[usize], after: &[usize]) {
    let edge = |order_only| {
        move |&from: &usize| Edge {
            from,
            to,
            order_only,
        }
    };
    drawing.edges.extend(inputs.iter().map(edge(false)));
    drawing.edges.extend(after.iter().map(edge(true)));
}

//! Each route, asked by each role.

use batrun_monitor::{Access, Action};
use serde_json::{Value, json};

use crate::support::{
    HOSTILE_PATH, SECRET_KEY, SECRET_UNDO, Shop, ask, get, json, monitor, one_of_each, post, shop,
};

struct Asked {
    path: String,
    /// None for a GET.
    action: Option<String>,
}

/// All routes, from the document that the monitor serves.
async fn routes(shop: &Shop, task: &str) -> Vec<Asked> {
    let document = json(shop, "api/v1/openapi.json").await;
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.trim_start_matches('/').replace("{p}", "0");
        let path = path.replace("{s}", HOSTILE_PATH).replace("{id}", task);
        for (method, operation) in methods.as_object().unwrap() {
            assert!(
                ["get", "post"].contains(&method.as_str()),
                "{method} {path}"
            );
            let needs = operation["description"].as_str();
            let action = needs
                .and_then(|needs| needs.strip_prefix("needs the action "))
                .map(str::to_owned);
            assert_eq!(action.is_some(), method == "post", "{path}");
            routes.push(Asked {
                path: path.clone(),
                action,
            });
        }
    }
    routes
}

#[actix_web::test]
async fn d1_each_route_is_open_to_those_who_may_and_to_nobody_else() {
    let shop = shop().await;
    let task = one_of_each(&shop).await;
    let routes = routes(&shop, &task).await;
    assert_eq!(routes.len(), 27);
    let mut roles = vec![
        Access::none(),
        Access::look(),
        Access::look().values(),
        Access::all(),
    ];
    roles.extend(Action::ALL.map(|action| Access::look().action(action)));
    for role in roles {
        for route in &routes {
            let (as_role, path) = (role.clone(), &route.path);
            let mount = monitor(&shop)
                .mount("/batrun")
                .access(move |_| as_role.clone());
            let request = match route.action {
                // Not what any of them wants, so that nothing happens.
                Some(_) => post(path, json!([])),
                None if path.ends_with("stream") => continue,
                None => get(path),
            };
            let answer = ask(mount, request).await;
            let allowed = match &route.action {
                Some(action) => Action::ALL
                    .iter()
                    .any(|one| one.as_str() == action && role.may(*one)),
                None => role.may_look(),
            };
            let case = format!("{path} as {role:?}: {} {}", answer.status, answer.text);
            match (allowed, &route.action) {
                (false, _) => {
                    assert_eq!(answer.status, 403, "{case}");
                    assert_eq!(answer.json()["code"], "forbidden", "{case}");
                }
                (true, Some(_)) => assert_eq!(answer.status, 400, "{case}"),
                // There is no report yet.
                (true, None) if path.ends_with("report") => {
                    assert_eq!(answer.status, 404, "{case}")
                }
                (true, None) => assert_eq!(answer.status, 200, "{case}"),
            }
        }
    }
    // Paths without a route are closed as well.
    for path in ["", "index.html", "nothing", "api/v1/nothing"] {
        let mount = monitor(&shop).mount("/batrun").access(|_| Access::none());
        assert_eq!(ask(mount, get(path)).await.status, 403, "{path}");
    }
}

#[actix_web::test]
async fn d1_values_are_hidden_on_every_route() {
    let shop = shop().await;
    let hangs = one_of_each(&shop).await;
    let mut paths: Vec<String> = Vec::new();
    for task in ["2", "3", &hangs] {
        paths.extend(
            routes(&shop, task)
                .await
                .into_iter()
                .filter(|route| route.action.is_none())
                .map(|route| route.path),
        );
    }
    paths.retain(|path| !path.ends_with("stream"));
    for (view, q) in [
        ("search", SECRET_KEY),
        ("tasks", SECRET_KEY),
        ("search", SECRET_UNDO),
        ("search", "label"),
        ("search", "3"),
    ] {
        paths.push(format!("api/v1/pipelines/0/{view}?q={q}"));
    }
    let mut seen = 0;
    for path in paths {
        for values in [false, true] {
            let access = if values {
                Access::look().values()
            } else {
                Access::look()
            };
            let mount = monitor(&shop)
                .mount("/batrun")
                .access(move |_| access.clone());
            let text = ask(mount, get(&path)).await.text;
            let shown = text.contains(SECRET_UNDO) && !path.contains(SECRET_UNDO);
            assert!(values || !shown, "{path}: {text}");
            seen += usize::from(shown);
        }
    }
    // Otherwise nothing was tested.
    assert!(seen >= 4, "{seen}");
}

#[actix_web::test]
async fn d1_a_sample_says_what_the_sender_may_do() {
    let shop = shop().await;
    let mount = monitor(&shop)
        .mount("/batrun")
        .access(|_| Access::look().action(Action::Retry));
    let one = ask(mount, get("api/v1/pipelines/0")).await.json();
    assert_eq!(
        one["access"],
        json!({ "values": false, "actions": ["retry"] })
    );
    let all: Value = json(&shop, "api/v1/pipelines").await;
    assert_eq!(
        all["pipelines"][0]["access"]["actions"]
            .as_array()
            .unwrap()
            .len(),
        Action::ALL.len()
    );
}

//! A million devices in 200 groups: what compiling, changing and asking cost. A line of JSON for each
//! figure, by `cargo bench -p access --bench scale`; nothing is asserted here.

use access::{Facts, Fleet, Grants, SourceFile};
use model::{Assurance, DeviceId, GroupId, Principal, ProductId};
use std::hint::black_box;
use std::time::{Duration, Instant};

const DEVICES: u32 = 1_000_000;
const GROUPS: u32 = 200;
const PRODUCTS: u32 = 20;
/// Channels of each product.
const CHANNELS: u32 = 5;
const OF_A_GROUP: usize = 10_000;
const ROUNDS: u32 = 2_000_000;

type Wrong = Box<dyn std::error::Error>;

fn main() -> Result<(), Wrong> {
    let fleet = Fleet::read(&sources()).map_err(listed)?;
    let ids: Vec<DeviceId> = (0..DEVICES)
        .map(|number| DeviceId::new(&format!("dev-{number:07}")))
        .collect::<Result<_, _>>()?;
    let products = names("product", PRODUCTS, ProductId::new)?;
    let groups = names("group", GROUPS, GroupId::new)?;
    let first = ids.first().ok_or("no device")?;
    let facts = |number: usize| Facts {
        principal: Principal::Device(ids.get(number).unwrap_or(first).clone()),
        product: products.get(number % products.len()).cloned(),
        // Two groups each: one of every two hundredth, one of large blocks.
        groups: [number % groups.len(), number / 50_000]
            .iter()
            .filter_map(|place| groups.get(*place).cloned())
            .collect(),
        attributes: Default::default(),
        containment: None,
        assurance: Assurance::default(),
    };

    let before = kilobytes("VmHWM")?;
    let started = Instant::now();
    let grants = Grants::compile(&fleet, (0..ids.len()).map(facts)).map_err(listed)?;
    let took = started.elapsed();
    figure(
        "1,000,000 devices in 200 groups compiled",
        seconds(took),
        "s",
    );
    figure("classes of them", grants.class_count() as f64, "");
    figure(
        "memory to compile, most",
        (kilobytes("VmHWM")? - before) / 1024.0,
        "MiB",
    );

    let before = kilobytes("VmRSS")?;
    let mut subjects = Vec::with_capacity(ids.len());
    subjects.extend((0..ids.len()).map(|number| grants.subject(&facts(number))));
    let grown = kilobytes("VmRSS")? - before;
    figure(
        "memory of a device's grants",
        grown * 1024.0 / f64::from(DEVICES),
        "B",
    );

    let mut changed = facts(7);
    changed.groups = groups.iter().skip(3).step_by(41).cloned().collect();
    let started = Instant::now();
    let extended = grants.extended(&changed).map_err(listed)?;
    black_box(extended.as_ref().unwrap_or(&grants).subject(&changed));
    figure(
        "one device changed, into a class that nobody had",
        millis(started.elapsed()),
        "ms",
    );

    // As the plane does: a class that nobody had is compiled with the first who comes into it.
    let mut now = grants.clone();
    let started = Instant::now();
    for number in 0..OF_A_GROUP {
        let mut moved = facts(number * GROUPS as usize);
        moved
            .groups
            .push(groups.get(77).cloned().ok_or("no group")?);
        if let Some(extended) = now.extended(&moved).map_err(listed)? {
            now = extended;
        }
        black_box(now.subject(&moved));
    }
    figure("a group of 10,000 changed", millis(started.elapsed()), "ms");

    let topics: Vec<String> = (0..1000_usize)
        .map(|number| {
            format!(
                "v1/product-{}/dev-{number:07}/telemetry-1/x",
                number % PRODUCTS as usize
            )
        })
        .collect();
    let mut permitted = 0_u32;
    let started = Instant::now();
    for round in 0..ROUNDS as usize {
        let place = round % topics.len();
        if let (Some(subject), Some(topic)) = (subjects.get(place), topics.get(place)) {
            permitted +=
                u32::from(black_box(grants.publish(black_box(subject), black_box(topic))).is_ok());
        }
    }
    let took = started.elapsed();
    if permitted != ROUNDS {
        return Err(format!("{permitted} of {ROUNDS} were permitted").into());
    }
    figure(
        "authorisation of a publish",
        seconds(took) * 1e6 / f64::from(ROUNDS),
        "µs",
    );
    let allocations = allocation_counter::measure(|| {
        for (subject, topic) in subjects.iter().zip(&topics) {
            let _ = black_box(grants.publish(subject, topic));
        }
    });
    figure(
        "allocations of 1,000 authorisations",
        allocations.count_total as f64,
        "",
    );
    Ok(())
}

/// Each product has channels of its own; each group has a policy that names it.
fn sources() -> Vec<SourceFile> {
    use std::fmt::Write;
    let (mut fleet, mut products) = (String::from("name = \"scale\"\n"), String::new());
    let (mut channels, mut policies) = (String::new(), String::new());
    for group in 0..GROUPS {
        let _ = writeln!(
            fleet,
            "[groups.group-{group}]\ndescription = \"One of many\""
        );
        let channel = format!("p{}-command-{}", group % PRODUCTS, group % CHANNELS);
        let _ = writeln!(
            policies,
            "@id(\"group-{group}\")\npermit (principal in Group::\"group-{group}\", action == \
             Action::\"receive\", resource == Channel::\"{channel}\")\nwhen {{ resource.owner == \
             principal }};"
        );
    }
    for product in 0..PRODUCTS {
        let _ = writeln!(
            products,
            "[product-{product}]\ndescription = \"One of twenty\""
        );
        for channel in 0..CHANNELS {
            for (name, direction) in [("telemetry", "from-device"), ("command", "to-device")] {
                let _ = writeln!(
                    channels,
                    "[p{product}-{name}-{channel}]\ndescription = \"One of many\"\ntopic = \
                     \"v1/product-{product}/{{device}}/{name}-{channel}/{{any}}\"\ndirection = \
                     \"{direction}\"\npayload_bytes_max = 1024"
                );
            }
        }
        let _ = writeln!(
            policies,
            "@id(\"product-{product}\")\npermit (principal is Device in Product::\"product-{product}\", \
             action == Action::\"publish\", resource)\nwhen {{ resource.owner == principal && \
             resource.direction == \"from-device\" }};"
        );
    }
    [
        ("fleet.toml", fleet),
        ("products/all.toml", products),
        ("channels/all.toml", channels),
        ("policies/all.cedar", policies),
    ]
    .map(|(path, text)| SourceFile {
        path: path.to_owned(),
        text,
    })
    .to_vec()
}

fn names<T, E: std::error::Error + 'static>(
    word: &str,
    count: u32,
    named: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Wrong> {
    let all: Result<Vec<T>, E> = (0..count)
        .map(|number| named(&format!("{word}-{number}")))
        .collect();
    Ok(all?)
}

fn listed(wrong: Vec<access::Diagnostic>) -> Wrong {
    let lines: Vec<String> = wrong.iter().take(5).map(ToString::to_string).collect();
    lines.join("\n").into()
}

/// A line of `/proc/self/status`.
fn kilobytes(name: &str) -> Result<f64, Wrong> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = (status.lines()).find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(value.ok_or("no such line")?.trim().parse()?)
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{{\"figure\":\"{name}\",\"value\":{value},\"unit\":\"{unit}\"}}");
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

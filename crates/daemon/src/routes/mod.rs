//! The table of routes. One more is a file beside these and a line here.

use crate::route::Route;

mod chosen;
mod containers;
mod exec;
mod images;
mod late;
mod networks;
mod plugins;
mod streams;
mod swarm;
mod system;
mod unsupported;
mod volumes;

/// All routes; the first that fits is taken, so literal paths stand before open ones.
pub const TABLE: &[&[Route]] = &[SERVED, unsupported::ROUTES];

const SERVED: &[Route] = &[
    system::ping::ROUTE,
    system::version::ROUTE,
    system::info::ROUTE,
    system::df::ROUTE,
    system::build_prune::ROUTE,
    system::auth::ROUTE,
    system::events::ROUTE,
    images::create::ROUTE,
    images::delta::ROUTE,
    images::get::SEVERAL,
    images::get::ONE,
    images::load::ROUTE,
    images::search::ROUTE,
    images::distribution::ROUTE,
    images::list::ROUTE,
    images::inspect::ROUTE,
    images::history::ROUTE,
    images::push::ROUTE,
    images::commit::ROUTE,
    images::tag::ROUTE,
    images::remove::ROUTE,
    images::prune::ROUTE,
    images::verify::ROUTE,
    containers::list::ROUTE,
    containers::create::ROUTE,
    containers::inspect::ROUTE,
    containers::start::ROUTE,
    containers::stop::ROUTE,
    containers::restart::ROUTE,
    containers::kill::ROUTE,
    containers::pause::ROUTE,
    containers::unpause::ROUTE,
    containers::rename::ROUTE,
    containers::update::ROUTE,
    containers::remove::ROUTE,
    containers::prune::ROUTE,
    containers::wait::ROUTE,
    containers::logs::ROUTE,
    containers::attach::ROUTE,
    containers::resize::ROUTE,
    containers::top::ROUTE,
    containers::changes::ROUTE,
    containers::export::ROUTE,
    containers::archive::HEAD,
    containers::archive::GET,
    containers::archive::PUT,
    exec::create::ROUTE,
    exec::start::ROUTE,
    exec::inspect::ROUTE,
    exec::resize::ROUTE,
    volumes::list::ROUTE,
    volumes::create::ROUTE,
    volumes::inspect::ROUTE,
    volumes::remove::ROUTE,
    volumes::prune::ROUTE,
    networks::list::ROUTE,
    networks::create::ROUTE,
    networks::prune::ROUTE,
    networks::inspect::ROUTE,
    networks::remove::ROUTE,
    networks::connect::ROUTE,
    networks::disconnect::ROUTE,
    plugins::list::ROUTE,
    swarm::inspect::SWARM,
    swarm::inspect::NODES,
    swarm::inspect::SERVICES,
    swarm::inspect::TASKS,
    swarm::inspect::SECRETS,
    swarm::inspect::CONFIGS,
];

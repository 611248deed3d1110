mod properties;
mod scale;
mod script;
mod stories;
mod transitions;
mod world;

//! The fleet that ours is loaded with.

/// What Mosquitto's access list and configuration say, in our words; and a rate, so that metering
/// is part of the work.
pub const FLEET: [(&str, &str); 6] = [
    ("fleet.toml", "name = \"bench\"\n"),
    (
        "products/device.toml",
        "[device]\ndescription = \"Sends much\"\n",
    ),
    (
        "services/consumer.toml",
        "[consumer]\ndescription = \"Receives all\"\n",
    ),
    (
        "channels/bench.toml",
        "[up]\ndescription = \"What devices send\"\ntopic = \"t/{device}/up\"\n\
         direction = \"from-device\"\npayload_bytes_max = 4096\nrate_per_minute = 1000000\n\n\
         [down]\ndescription = \"What devices hear\"\ntopic = \"t/{device}/down\"\n\
         direction = \"to-device\"\npayload_bytes_max = 4096\nrate_per_minute = 1000000\n\n\
         [told]\ndescription = \"The same as up, held to a contract\"\ntopic = \"t/{device}/told\"\n\
         direction = \"from-device\"\npayload_bytes_max = 4096\nrate_per_minute = 1000000\n\
         schema = \"schemas/told.json\"\n\n\
         [all]\ndescription = \"What all hear\"\ntopic = \"n/all\"\n\
         direction = \"to-device\"\npayload_bytes_max = 4096\nrate_per_minute = 1000000\n",
    ),
    (
        "schemas/told.json",
        // What `sim load` sends.
        "{\"type\": \"object\", \"additionalProperties\": false,\n\
         \"required\": [\"device\", \"sequence\", \"sent\"],\n\
         \"properties\": {\n\
         \"device\": {\"type\": \"integer\", \"minimum\": 0},\n\
         \"sequence\": {\"type\": \"integer\", \"minimum\": 0},\n\
         \"sent\": {\"type\": \"integer\", \"minimum\": 0},\n\
         \"pad\": {\"type\": \"string\", \"maxLength\": 4096, \"pattern\": \"^x*$\"}}}\n",
    ),
    (
        "policies/bench.cedar",
        "@id(\"device-sends-own\")\n\
         permit (principal is Device, action == Action::\"publish\", resource)\n\
         when { resource.owner == principal && resource.direction == \"from-device\" };\n\n\
         @id(\"device-hears-own\")\n\
         permit (principal is Device, action == Action::\"receive\", resource)\n\
         when { resource.owner == principal && resource.direction == \"to-device\" };\n\n\
         @id(\"consumer-receives-all\")\n\
         permit (principal == Service::\"consumer\", action == Action::\"receive\", resource)\n\
         when { resource.direction == \"from-device\" };\n\n\
         @id(\"device-hears-all\")\n\
         permit (principal is Device, action == Action::\"receive\", resource == Channel::\"all\");\n\n\
         @id(\"consumer-speaks-to-all\")\n\
         permit (principal == Service::\"consumer\", action == Action::\"publish\",\n\
         resource == Channel::\"all\");\n",
    ),
];

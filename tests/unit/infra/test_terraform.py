"""infra/terraform/gcp agrees with itself, gives no more rights than needed, and protects what cannot be had again."""

import re
from pathlib import Path

import pytest
import yaml

from tests.services import terraform
from tests.services.terraform import Module, plain

_FOLDER = Path(__file__).parents[3] / "infra" / "terraform" / "gcp"

_FREE_TEXT = ("string", "${map(string)}", "${list(string)}", "${map(list(string))}", "${object(", "${map(object(")


@pytest.fixture(scope="module")
def module() -> Module:
    """Read the module."""
    return terraform.read(_FOLDER)


def test_references_lead_somewhere(module: Module) -> None:
    """Whatever an expression names is declared: variables, locals, resources, data, attributes of object variables."""
    for address, references in module.references().items():
        for reference in references:
            kind, name, *attribute = reference.removeprefix("data.").split(".")
            target = f"{'data.' if reference.startswith('data.') else ''}{kind}.{name}"
            assert target in module.blocks, f"{address} refers to {reference}"
            of_object = kind == "var" and str(module.blocks[target]["type"]).startswith("${object(")
            if of_object and attribute:
                assert re.search(rf"\b{attribute[0]} = ", module.blocks[target]["type"]), f"{address}: {reference}"


def test_nothing_is_declared_in_vain(module: Module) -> None:
    """Every variable, local and data source is used by something else than itself."""
    used = {
        ".".join(reference.split(".")[: 3 if reference.startswith("data.") else 2])
        for address, references in module.references().items()
        for reference in references
        if not reference.startswith(address)
    }
    declared = {address for address in module.blocks if address.startswith(("var.", "local.", "data."))}
    assert declared - used == set()


def test_variables_say_what_they_are(module: Module) -> None:
    """Every variable has a type and a description; where text is free, a condition, with an example in what it says."""
    variables = module.of("var")
    assert len(variables) > 15
    for name, variable in variables.items():
        assert len(plain(variable["description"])) > 20, name
        kind = str(variable["type"])
        assert kind in {"bool", "number"} or kind.startswith(_FREE_TEXT), f"{name}: {kind}"
        if kind.startswith(_FREE_TEXT):
            assert variable.get("validation"), f"{name} takes anything"
        for validation in variable.get("validation", []):
            message = plain(validation["error_message"])
            assert message.startswith(f"{name}: "), message
            assert re.search(r'for example ["{\[]', message), message
            assert any(f"var.{name}" in text for text in terraform.expressions(validation["condition"]))


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("project", ["123456789", "My Project", "projects/hospital", "a"]),
        ("region", ["europe-west4-a", "Europe", "eu"]),
        ("healthcare_location", ["europe-west4-a", "germany"]),
        ("name", ["Slidewire", "a", "slidewire_", "a-name-that-is-far-too-long"]),
        ("dicom_store", ["slides/all", "", "a store", "slides.1"]),
        ("bucket", ["gs://results", "Results", "r", "-results"]),
        ("access_log_bucket", ["gs://logs", "Logs/"]),
        ("kms_key", ["slides", "projects/keys/cryptoKeys/slides"]),
    ],
)
def test_conditions_take_their_own_example(module: Module, name: str, refused: list[str]) -> None:
    """What a condition's message gives as an example passes the condition's pattern, and what is near it does not."""
    validation = module.of("var")[name]["validation"][0]
    pattern = re.search(r'regex\("(.*?)", var\.', validation["condition"])
    assert pattern is not None
    for example in re.findall(r'"([^"]+)"', plain(validation["error_message"])):
        assert re.fullmatch(pattern[1], example), example
    for text in refused:
        assert not re.fullmatch(pattern[1], text), text


def test_outputs(module: Module) -> None:
    """What the README tells the reader to ask for is there, and every output says what it is for."""
    outputs = module.of("output")
    asked = set(re.findall(r"terraform output (?:-raw )?(\w+)", (_FOLDER / "README.md").read_text()))
    assert asked
    assert asked <= set(outputs)
    for name, output in outputs.items():
        assert len(plain(output["description"])) > 15, name


def test_versions_are_pinned(module: Module) -> None:
    """Terraform and the provider have a lower and an upper bound."""
    settings = module.lines["versions.tf"]
    assert re.search(r'required_version = ">= 1\.9, < 2\.0"', settings)
    assert re.search(r'source  = "hashicorp/google"\n\s+version = "~> \d+\.\d+"', settings)


def test_roles(module: Module) -> None:
    """These are all roles that are given, and where a role can be given on one thing, it is."""
    given = {
        (address.split(".")[0], plain(block["role"]))
        for address, block in module.resources().items()
        if "_iam_" in address and "role" in block
    }
    assert given == {
        ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.reader"),
        ("google_healthcare_dicom_store_iam_member", "roles/healthcare.dicomEditor"),
        ("google_healthcare_dicom_store_iam_member", "roles/healthcare.dicomViewer"),
        ("google_kms_crypto_key_iam_member", "roles/cloudkms.cryptoKeyEncrypterDecrypter"),
        ("google_project_iam_member", "roles/cloudsql.client"),
        ("google_project_iam_member", "roles/container.defaultNodeServiceAccount"),
        ("google_pubsub_topic_iam_member", "roles/pubsub.publisher"),
        ("google_secret_manager_secret_iam_member", "roles/secretmanager.secretAccessor"),
        ("google_service_account_iam_member", "roles/iam.workloadIdentityUser"),
        ("google_storage_bucket_iam_member", "roles/storage.objectUser"),
    }


def test_who_reads_and_who_writes(module: Module) -> None:
    """The worker may edit the DICOM store and write objects; what watches may only view, and has no bucket."""
    editors = module.of("google_healthcare_dicom_store_iam_member")
    assert {name: (plain(b["role"]), b["member"]) for name, b in editors.items()} == {
        "worker": ("roles/healthcare.dicomEditor", '${google_service_account.pod["worker"].member}'),
        "watch": ("roles/healthcare.dicomViewer", '${google_service_account.pod["watch"].member}'),
    }
    (bucket,) = module.of("google_storage_bucket_iam_member").values()
    assert bucket["member"] == '${google_service_account.pod["worker"].member}'
    ledger = module.blocks["google_project_iam_member.ledger"]
    assert "google_sql_database_instance.ledger.name" in ledger["condition"][0]["expression"]


def test_nobody_is_everybody(module: Module) -> None:
    """No public member, no wildcard, no role over a project, nothing that sets a whole policy, no account's key."""
    text = "\n".join(module.lines.values())
    assert not re.search(r"allUsers|allAuthenticatedUsers|domain:|roles/(owner|editor|viewer)\b", text)
    assert not re.search(r"role\s+= \"[^\"]*\*", text)
    kinds = {address.split(".")[0] for address in module.resources()}
    assert not {kind for kind in kinds if kind.endswith(("_iam_policy", "_iam_binding", "_service_account_key"))}


def test_no_secret_is_in_the_state(module: Module) -> None:
    """Nothing that would put a password or a secret's content into Terraform's state is declared."""
    kinds = {address.split(".")[0] for address in module.blocks}
    assert not kinds & {"google_sql_user", "google_secret_manager_secret_version", "random_password"}
    assert not [n for n, v in module.of("var").items() if "password" in n or "token" in n or "sensitive" in v]


def test_data_is_protected(module: Module) -> None:
    """Slides, results and the ledger cannot be destroyed by mistake, and what was overwritten can be had back."""
    for address in (
        "google_healthcare_dataset.this",
        "google_healthcare_dicom_store.this",
        "google_storage_bucket.results",
    ):
        assert module.blocks[address]["lifecycle"][0]["prevent_destroy"] is True, address
    for address in ("google_sql_database_instance.ledger", "google_container_cluster.this"):
        assert module.blocks[address]["deletion_protection"] == "${var.deletion_protection}"
    assert module.of("var")["deletion_protection"]["default"] is True
    bucket = module.blocks["google_storage_bucket.results"]
    assert bucket["versioning"][0]["enabled"] is True
    assert bucket["force_destroy"] is False
    backups = module.blocks["google_sql_database_instance.ledger"]["settings"][0]["backup_configuration"][0]
    assert backups["point_in_time_recovery_enabled"] is True


def test_nothing_is_public(module: Module) -> None:
    """Bucket, database, nodes and control plane have no public way in."""
    bucket = module.blocks["google_storage_bucket.results"]
    assert plain(bucket["public_access_prevention"]) == "enforced"
    assert bucket["uniform_bucket_level_access"] is True
    database = module.blocks["google_sql_database_instance.ledger"]["settings"][0]["ip_configuration"][0]
    assert database["ipv4_enabled"] is False
    assert plain(database["ssl_mode"]) == "ENCRYPTED_ONLY"
    cluster = module.blocks["google_container_cluster.this"]["private_cluster_config"][0]
    assert cluster["enable_private_nodes"] is cluster["enable_private_endpoint"] is True
    for rule in module.of("google_compute_firewall").values():
        assert "allow" not in rule


def test_what_nobody_asked_for_is_not_made(module: Module) -> None:
    """There is a topic only with `notifications`, which is off, and a way out of the network only with `outbound`."""
    assert module.of("var")["notifications"]["default"] is False
    for address in ("google_pubsub_topic.stored", "google_pubsub_topic_iam_member.stored"):
        assert module.blocks[address]["count"] == "${var.notifications ? 1 : 0}"
    for address in ("google_compute_router.this", "google_compute_router_nat.this"):
        assert module.blocks[address]["count"] == "${var.outbound ? 1 : 0}"


def test_own_key_reaches_everything_that_keeps_data(module: Module) -> None:
    """With a key of one's own, no store of data is left to Google's."""
    kept = {address for address, found in module.references().items() if "var.kms_key" in found}
    assert kept >= {
        "google_artifact_registry_repository.images",
        "google_container_cluster.this",
        "google_container_node_pool.pool",
        "google_healthcare_dataset.this",
        "google_pubsub_topic.stored",
        "google_secret_manager_secret.this",
        "google_sql_database_instance.ledger",
        "google_storage_bucket.results",
        "output.storage_class",
    }


def test_reading_is_logged(module: Module) -> None:
    """Who reads from the DICOM store and the bucket is in the audit logs, and cannot be left out."""
    audited = module.of("var")["audited"]
    assert {"healthcare.googleapis.com", "storage.googleapis.com"} <= {plain(name) for name in audited["default"]}
    assert '"healthcare.googleapis.com"' in audited["validation"][0]["condition"]
    config = module.blocks["google_project_iam_audit_config.this"]["audit_log_config"]
    assert {plain(kind["log_type"]) for kind in config} == {"ADMIN_READ", "DATA_READ", "DATA_WRITE"}


def test_example_sets_what_there_is(module: Module) -> None:
    """terraform.tfvars.example gives every variable without a default, and no variable that is not there."""
    names = set(re.findall(r"^(\w+) +=", (_FOLDER / "terraform.tfvars.example").read_text(), flags=re.MULTILINE))
    variables = module.of("var")
    assert {name for name, variable in variables.items() if "default" not in variable} <= names <= set(variables)


def test_chart_fits(module: Module) -> None:
    """The chart's example for a cloud names the node pools, the storage class and the addresses that are made here."""
    values = yaml.safe_load((_FOLDER.parents[1] / "helm" / "examples" / "cloud.yaml").read_text())
    example = (_FOLDER / "terraform.tfvars.example").read_text()
    pools = set(re.findall(r"^  (\w+) = \{$", example, flags=re.MULTILINE))
    assert {pool["nodeSelector"]["slidewire/pool"] for pool in values["pools"].values()} <= pools
    assert '"slidewire/pool" = each.key' in module.lines["cluster.tf"]
    assert values["checkpoints"]["storageClassName"] == "slidewire-shared"
    assert '"${var.name}-shared"' in module.lines["outputs.tf"]
    allowed = {each["cidr"] for each in values["networkPolicy"]["endpoints"]}
    assert allowed == {plain(module.blocks["local.google_range"])}


def test_accounts_are_those_of_the_chart(module: Module) -> None:
    """Workload Identity names the Kubernetes accounts as the Helm chart does for a release called slidewire."""
    chart = yaml.safe_load((_FOLDER.parents[1] / "helm" / "slidewire" / "Chart.yaml").read_text())
    accounts = module.of("var")["kubernetes"]["type"]
    for part in ("worker", "watch"):
        assert f'{part} = optional(string, "{chart["name"]}-{part}")' in accounts

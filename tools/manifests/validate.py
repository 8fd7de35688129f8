"""Validates Kubernetes objects, a chart and a dashboard for tests/it/manifests and tests/it/monitoring.

    validate.py objects VERSION...   standard input: YAML documents. Validates each against the OpenAPI
                                     schemas of these Kubernetes versions, unknown fields forbidden.
    validate.py rules CRD_FILE       standard input: a JSON array of objects that fit that CRD's schema.
                                     Writes a JSON array of arrays: which CEL rules each one breaks.
    validate.py prometheus-operator  standard input: YAML documents. Validates those of
                                     monitoring.coreos.com as that project's CRDs have them.
    validate.py chart FOLDER         standard input: a JSON array of values for that Helm chart. Writes a
                                     JSON array: for each one {"manifests": {FILE: YAML}, "lint": [TEXT]}
                                     or {"refused": TEXT}. The release is `chart` in the operator's
                                     usual namespace.
    validate.py dashboard FILE       a Grafana dashboard: has it a field that Grafana doesn't know?

Custom resources (kinds without a schema here) are counted by `objects`, not validated.
Exit code 1 if an object is invalid, 3 if a validator isn't installed.
"""

import functools
import json
import sys

try:
    import kubernetes_validate
    import yaml
    from cel_expr_python import cel
except ImportError as error:
    print(f"validate.py: {error}", file=sys.stderr)
    sys.exit(3)

BUILT_IN = ("k8s.io",)

# It reads megabytes of schemas anew for each object.
kubernetes_validate.utils.schema_contents = functools.cache(
    kubernetes_validate.utils.schema_contents
)


def is_custom(api_version):
    group = api_version.rpartition("/")[0]
    return "." in group and not group.endswith(BUILT_IN)


def objects(versions):
    documents = [each for each in yaml.safe_load_all(sys.stdin) if each is not None]
    problems, validated, custom = [], 0, 0
    for document in documents:
        if is_custom(document["apiVersion"]):
            custom += 1
            continue
        for version in versions:
            name = f"{document['kind']}/{document['metadata']['name']}"
            try:
                used = kubernetes_validate.validate(document, version, strict=True)
                if used != version:
                    problems.append(f"{name}: no schemas of Kubernetes {version}, only {used}")
            except kubernetes_validate.ValidationError as error:
                path = ".".join(str(part) for part in error.path)
                problems.append(f"{name} ({version}): {path}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError as error:
                problems.append(f"{name} ({version}): {error.message}")
        validated += 1
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{validated} validated, {custom} custom")
    return 1 if problems else 0


def rules(schema, value, path, environment):
    """Evaluates each x-kubernetes-validations rule where it stands, as an API server does."""
    for rule in schema.get("x-kubernetes-validations", []):
        result = environment.compile(rule["rule"]).eval(data={"self": value})
        if result.value() is not True:
            yield f"{path}: {rule['message']}"
    if isinstance(value, dict):
        for name, below in schema.get("properties", {}).items():
            if name in value:
                yield from rules(below, value[name], f"{path}.{name}", environment)
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from rules(schema["items"], each, f"{path}[{index}]", environment)


def broken_rules(crd_file):
    with open(crd_file, encoding="utf-8") as file:
        crd = yaml.safe_load(file)
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    environment = cel.NewEnv(variables={"self": cel.Type.DYN})
    refused = [list(rules(schema, each, "$", environment)) for each in json.load(sys.stdin)]
    json.dump(refused, sys.stdout)
    return 0


def lost(value, back, path="$"):
    """What is in the first but not in the second."""
    if isinstance(value, dict) and isinstance(back, dict):
        for name, below in value.items():
            if name in back:
                yield from lost(below, back[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: not known"
    elif isinstance(value, list) and isinstance(back, list) and len(value) == len(back):
        for index, (below, back_below) in enumerate(zip(value, back)):
            yield from lost(below, back_below, f"{path}[{index}]")
    elif value != back:
        yield f"{path}: {value!r} was read as {back!r}"


def prometheus_operator():
    from cloudcoil.models.prometheus_operator import v1
    from pydantic import ValidationError

    problems, validated = [], 0
    for document in yaml.safe_load_all(sys.stdin):
        if document is None or document["apiVersion"] != "monitoring.coreos.com/v1":
            continue
        name = f"{document['kind']}/{document['metadata']['name']}"
        try:
            model = getattr(v1, document["kind"]).model_validate(document)
            # Fields that the CRD doesn't have get lost on the way.
            back = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
            problems += [f"{name}: {problem}" for problem in lost(document, back)]
        except ValidationError as error:
            problems.append(f"{name}: {error}")
        validated += 1
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{validated} validated")
    return 1 if problems else 0


def dashboard(path):
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    with open(path, encoding="utf-8") as file:
        given = json.load(file)
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    problems = list(lost(given, back))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def chart(folder):
    from helm_python import HelmError
    from helm_python.chart import Chart, lint

    namespace = "multinic-operator-system"
    answers = []
    with Chart.load(folder) as loaded:
        for values in json.load(sys.stdin):
            try:
                manifests = loaded.render(values, name="chart", namespace=namespace)
            except HelmError as error:
                answers.append({"refused": str(error)})
                continue
            report = lint(folder, values, strict=True, namespace=namespace)
            # Severity 1 is a recommendation, such as an icon.
            serious = [f"{m['path']}: {m['error']}" for m in report["messages"] if m["severity"] > 1]
            answers.append({"manifests": manifests, "lint": serious + report["errors"]})
    json.dump(answers, sys.stdout)
    return 0


def with_libraries(check, *arguments):
    try:
        return check(*arguments)
    except ImportError as error:
        print(f"validate.py: {error}", file=sys.stderr)
        return 3


match sys.argv[1:]:
    case ["objects", *versions] if versions:
        sys.exit(objects(versions))
    case ["rules", crd_file]:
        sys.exit(broken_rules(crd_file))
    case ["prometheus-operator"]:
        sys.exit(with_libraries(prometheus_operator))
    case ["chart", folder]:
        sys.exit(with_libraries(chart, folder))
    case ["dashboard", file]:
        sys.exit(with_libraries(dashboard, file))
    case _:
        print(__doc__, file=sys.stderr)
        sys.exit(2)

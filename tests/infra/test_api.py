"""The API in the template has the routes of the apps, and the apps have those of the template."""

import json
import re
from typing import Any

import pytest

from manifold import web
from manifold.errors import PayloadTooLarge
from tests.infra.template import Template
from tests.support import apps
from tests.support.origins import NO_ORIGINS, ORIGINS


def test_apps_and_template_have_the_same_routes(template: Template) -> None:
    in_template = {(template.functions()[behind]["Handler"], *route) for route, behind in template.routes()}
    assert in_template == {(f"{app}.app.handler", method, path) for app, method, path in apps.every_route()}


def test_methods_are_written_out(template: Template) -> None:
    assert {method for (method, _), _ in template.routes()} <= {"GET", "HEAD", "POST", "DELETE"}


def test_browsers_may_send_a_preflight_to_each_path(template: Template) -> None:
    for methods in template.paths().values():
        preflight = methods["options"]
        assert all(operation == preflight for operation in methods.values()), "one function, which streams or does not"


NOTHING = {"Ref": "AWS::NoValue"}


def test_what_the_gateway_itself_answers_can_be_read_by_pages_where_any_may_call(template: Template) -> None:
    for response in template.gateway_responses().values():
        parameters = response["responseParameters"]
        assert parameters == {
            "gatewayresponse.header.x-request-id": "context.requestId",
            "gatewayresponse.header.Access-Control-Allow-Origin": {"Fn::If": ["CorsIsOn", "'*'", NOTHING]},
            "gatewayresponse.header.Access-Control-Expose-Headers": {"Fn::If": ["CorsIsOn", "'x-request-id'", NOTHING]},
        }


def test_pages_of_allowed_origins_upload_to_links_and_any_redirected_request_reads_them(template: Template) -> None:
    (bucket,) = template.properties("AWS::S3::Bucket").values()
    condition, configuration, otherwise = bucket["CorsConfiguration"]["Fn::If"]
    assert (condition, otherwise) == ("CorsIsOn", NOTHING)
    upload, download = configuration["CorsRules"]
    assert (upload["AllowedMethods"], upload["AllowedOrigins"]) == (["PUT"], {"Ref": "AllowedOrigins"})
    assert (download["AllowedMethods"], download["AllowedOrigins"]) == (["GET", "HEAD"], ["*"])
    assert upload["AllowedHeaders"] == download["AllowedHeaders"] == ["*"]
    assert {name.lower() for name in download["ExposedHeaders"]} <= set(web.EXPOSED_HEADERS)


def test_cors_is_off_by_default_and_the_parameter_takes_what_the_code_takes(written: dict[str, Any]) -> None:
    parameter = written["Parameters"]["AllowedOrigins"]
    assert (parameter["Type"], parameter["Default"]) == ("CommaDelimitedList", "")
    assert written["Conditions"]["CorsIsOn"] == {
        "Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "AllowedOrigins"}]}, ""]}]
    }
    pattern = re.compile(parameter["AllowedPattern"])  # CloudFormation compares each entry of the list, as a whole
    assert all(pattern.fullmatch(one) for one in ["", *ORIGINS])
    assert not any(pattern.fullmatch(one) for one in NO_ORIGINS)


def test_the_stage_is_the_version_and_the_only_one(template: Template) -> None:
    (stage,) = template.properties("AWS::ApiGateway::Stage").values()
    assert stage["StageName"] == "v1"


def test_requests_above_the_limit_are_throttled_at_the_gateway(template: Template) -> None:
    (stage,) = template.properties("AWS::ApiGateway::Stage").values()
    (everywhere,) = stage["MethodSettings"]
    assert (everywhere["ResourcePath"], everywhere["HttpMethod"]) == ("/*", "*")
    assert everywhere["ThrottlingRateLimit"] == {"Ref": "RequestRate"}
    assert everywhere["ThrottlingBurstLimit"] == {"Ref": "RequestBurst"}


def test_a_line_of_the_access_log_is_json_without_a_secret(template: Template) -> None:
    (stage,) = template.properties("AWS::ApiGateway::Stage").values()
    condition, setting, _ = stage["AccessLogSetting"]["Fn::If"]
    assert condition == "IsLogged"
    group = setting["DestinationArn"]["Fn::GetAtt"][0]
    assert template.resources[group]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    logged = set(json.loads(setting["Format"]).values())
    assert "$context.requestId" in logged
    expected = {"requestTimeEpoch", "requestId", "httpMethod", "resourcePath", "path", "status", "responseLength"}
    expected |= {"responseLatency", "integration.status", "integration.requestId", "integrationLatency"}
    expected |= {"integration.timeToFirstContent", "error.responseType", "identity.sourceIp"}
    assert logged == {f"$context.{name}" for name in expected}


def test_it_is_regional_and_passes_bytes(template: Template) -> None:
    (api,) = template.properties("AWS::ApiGateway::RestApi").values()
    assert api["EndpointConfiguration"]["Types"] == ["REGIONAL"]
    assert api["Body"]["x-amazon-apigateway-binary-media-types"] == ["*/*"]


def test_what_the_gateway_itself_answers_has_openais_shape(template: Template) -> None:
    for response in template.gateway_responses().values():
        assert list(response["responseTemplates"]) == ["application/json"]
        error = _error(response)
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("MISSING_AUTHENTICATION_TOKEN", 404),
        ("RESOURCE_NOT_FOUND", 404),
        ("REQUEST_TOO_LARGE", 413),
        ("THROTTLED", 429),
        ("QUOTA_EXCEEDED", 429),
        ("INTEGRATION_FAILURE", 502),
        ("INTEGRATION_TIMEOUT", 504),
    ],
)
def test_what_the_gateway_itself_answers_has_the_right_status(name: str, status: int, template: Template) -> None:
    assert template.gateway_responses()[name]["statusCode"] == str(status)


def test_other_errors_of_the_gateway_are_answered_too(template: Template) -> None:
    assert {"DEFAULT_4XX", "DEFAULT_5XX"} <= set(template.gateway_responses())


def test_a_large_body_gets_the_same_code_from_gateway_and_app(template: Template) -> None:
    assert _error(template.gateway_responses()["REQUEST_TOO_LARGE"])["code"] == PayloadTooLarge("…").code


def _error(response: dict[str, Any]) -> dict[str, Any]:
    body = response["responseTemplates"]["application/json"]
    error: dict[str, Any] = json.loads(body.replace("$context.error.messageString", '"…"'))["error"]
    return error

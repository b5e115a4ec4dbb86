"""Looks after tenants, users and keys with the unmodified tb-rest-client, 4.3 or 4.4.

tb_users.py MANAGEMENT_URL SYSADMIN PASSWORD prints what it saw as one line of JSON.
"""

import json
import sys

try:
    from tb_rest_client.rest_client_ce import *
    from tb_rest_client.rest_client_ce import RestClientCE as RestClient

    VERSION = "4.3"
except ImportError:
    from tb_rest_client import RestClient
    from tb_rest_client.models import *

    VERSION = "4.4"


def logged_in(url, user, password):
    client = RestClient(url)
    client.login(user, password)
    return client


def activated(url, administrator, user, password):
    """Chooses the first password of a user, whose client is then logged in."""
    link = administrator.get_activation_link(user.id)
    # 4.3 makes "b'…'" of a text.
    body = ActivateUserRequest(activate_token=link.split("activateToken=")[1].strip("'"), password=password)
    administrator.activate_user(body=body, send_activation_mail=False)
    return logged_in(url, user.email, password)


def main():
    url, name, password = sys.argv[1:]
    seen = {"version": VERSION}
    system = logged_in(url, name, password)
    seen["authority"] = system.get_user().authority

    tenant = system.save_tenant(body=Tenant(title=f"tenant {VERSION}"))
    seen["tenants"] = [found.title for found in system.get_tenants(page_size=10, page=0, sort_property="title").data]
    email = f"admin-{VERSION}@example.org"
    user = User(email=email, authority="TENANT_ADMIN", tenant_id=tenant.id, first_name="Anna")
    user = system.save_user(body=user, send_activation_mail=False)
    seen["administrators"] = [found.email for found in system.get_tenant_admins(tenant.id, page_size=10, page=0).data]

    admin = activated(url, system, user, "a first password")
    profile = admin.get_default_device_profile_info()
    device = admin.save_device(body=Device(name="pump", device_profile_id=profile.id))
    seen["of_tenant"] = device.tenant_id.id == tenant.id.id
    reader = User(email=f"reader-{VERSION}@example.org", authority="CUSTOMER_USER")
    reader = admin.save_user(body=reader, send_activation_mail=False)
    reading = activated(url, admin, reader, "another password")
    seen["read"] = reading.get_device_by_id(device.id).name
    try:
        reading.delete_device(device.id)
    except Exception as error:
        seen["refused"] = error.status

    if VERSION == "4.4":
        key = admin.save_api_key(body=ApiKeyInfo(user_id=user.id, description="pipeline", enabled=True))
        by_key = RestClient(url)
        by_key.api_key_login(key.value)
        seen["read_by_key"] = by_key.get_device_by_id(device.id).name
        seen["keys"] = [found.description for found in admin.get_user_api_keys(user.id, page_size=10, page=0).data]

    body = ChangePasswordRequest(current_password="another password", new_password="a third password")
    reading.change_password(body=body)
    logged_in(url, reader.email, "a third password")
    admin.set_user_credentials_enabled(reader.id, user_credentials_enabled=False)

    log = admin.get_audit_logs_by_entity_id(device.id, page_size=10, page=0, sort_property="createdTime", sort_order="ASC")
    seen["log_of_device"] = [[entry.action_type, entry.action_status, entry.user_name] for entry in log.data]
    refused = admin.get_audit_logs_by_user_id(reader.id, page_size=10, page=0, action_types="DELETED")
    seen["refused_and_logged"] = [entry.action_failure_details for entry in refused.data]
    mine = admin.get_audit_logs_by_user_id(user.id, page_size=10, page=0, action_types="SUSPENDED")
    seen["suspended"] = [entry.entity_name for entry in mine.data]
    seen["logged"] = admin.get_audit_logs(page_size=1, page=0, text_search="pump").total_elements

    system.delete_tenant(tenant.id)
    try:
        admin.get_device_by_id(device.id)
    except Exception as error:
        seen["after_deletion"] = error.status
    print(json.dumps(seen))


main()

public import NodeKit

/// The messages of devices and their updates, and what their metadata holds.
///
/// All ingress nodes and all OTA nodes keep to it. Where the answer is "empty", a device is also content with none.
///
/// | Type | From | Metadata | Answer |
/// |---|---|---|---|
/// | `POST_TELEMETRY_REQUEST` | device | | empty |
/// | `POST_ATTRIBUTES_REQUEST` | device | | empty |
/// | `GET_ATTRIBUTES_REQUEST` | device | `clientKeys`, `sharedKeys`: names joined by commas; both absent means all of both | JSON `{"client":{…},"shared":{…}}` without groups that are empty |
/// | `PACKAGE_INFO_REQUEST` | device | `packageType` | JSON of the package's shared attributes |
/// | `PACKAGE_CHUNK_REQUEST` | device | `packageType`; `chunk`: zero-based index; `size`: bytes of a chunk, 0 or absent for the whole package; `title`, `version`: must be those assigned if present; `packageId`: serve this one if present, whatever is assigned by now | content |
/// | `PACKAGE_ASSIGNED` | `assignments` | `packageType`, `packageId`; `cause`: `RETRIED` or `RESENT`, absent for a new assignment | |
/// | `PACKAGE_UNASSIGNED` | `assignments` | `packageType`; `cause`: `CANCELLED` and `packageId` if the update was cancelled | |
/// | `UPDATE_STALLED` | `stalled` | `packageType`, `packageId`, `state`, `attempts`, `activeTime` | |
/// | `UPDATE_QUEUED` … `UPDATE_FAILED`, `UPDATE_CANCELLED`, `UPDATE_TIMED_OUT` | `update-events` | `packageType`, `packageId`, `title`, `version`, `state`, `cause`, `updateError`; data is the event | |
/// | `TO_SERVER_RPC_REQUEST` | device | `method`, which may be empty; `requestId`: 0 over HTTP and CoAP; data is the parameters, `null` if the device sends none | JSON |
/// | `RPC_CALL_FROM_SERVER_TO_DEVICE` | `calls` | `method`; `oneway`: whether no answer is wanted; `expirationTime`: when the call times out, in milliseconds since 1970; `rpcId` of a stored call; data is the parameters | JSON, one way empty |
/// | `TO_SERVER_RPC_RESPONSE` | device | `requestId`; data is the answer, `null` if it is empty | empty |
/// | `PROVISION_REQUEST` | `Originator.unknown`, with the name that the device wants | data is the request as the device wrote it | JSON with `status` `SUCCESS`, `NOT_FOUND` or `FAILURE` |
/// | `CLAIM_REQUEST` | device | data is the request, `{}` if the device wrote none | empty |
/// | `CONNECT_EVENT` | device, of transports with sessions | data is `{}` | |
/// | `DISCONNECT_EVENT` | device, of transports with sessions | data is `{}` | |
public enum MessageKey {
    /// `FIRMWARE` or `SOFTWARE`.
    public static let packageType = "packageType"
    /// A package's identifier.
    public static let packageId = "packageId"
    /// Zero-based index of a chunk.
    public static let chunk = "chunk"
    /// Size of a chunk in bytes; 0 means the whole package.
    public static let size = "size"
    /// The title that the device asked for.
    public static let title = "title"
    /// The version that the device asked for.
    public static let version = "version"
    /// Names of client attributes, joined by commas.
    public static let clientKeys = "clientKeys"
    /// Names of shared attributes, joined by commas.
    public static let sharedKeys = "sharedKeys"
    /// The method of a remote call.
    public static let method = "method"
    /// The identifier of a remote call or of a request over MQTT.
    public static let requestId = "requestId"
    /// Whether a remote call of the server wants no answer.
    public static let oneWay = "oneway"
    /// When a remote call of the server times out, in milliseconds since 1970-01-01 UTC.
    public static let expirationTime = "expirationTime"
    /// The transport a device message came over: `http`, `mqtt` or `coap`.
    public static let transport = "transport"
    /// The MQTT topic of a report, if the device's profile has topics of its own.
    public static let mqttTopic = "mqttTopic"
}

extension MessageKey {
    /// What ingress nodes of all transports declare: the keys that device messages carry.
    public static let variables: [VariableDescriptor] = [
        VariableDescriptor(Self.transport, "Of every message: http, mqtt or coap."),
        VariableDescriptor(Self.packageType, "Of a request for a package: FIRMWARE or SOFTWARE."),
        VariableDescriptor(
            Self.packageId,
            "Of a request for bytes: the package that the download began with (MQTT) or that the link leads to (HTTP)."
        ),
        VariableDescriptor(Self.title, "Of a request for a package: the title that the device asks for."),
        VariableDescriptor(Self.version, "Of a request for a package: the version that the device asks for."),
        VariableDescriptor(Self.chunk, "Of a request for a chunk: its zero-based index."),
        VariableDescriptor(Self.size, "Of a request for a chunk: bytes of a chunk; 0 means the whole package."),
        VariableDescriptor(Self.clientKeys, "Of a request for attributes: names of client attributes."),
        VariableDescriptor(Self.sharedKeys, "Of a request for attributes: names of shared attributes."),
        VariableDescriptor(Self.method, "Of a call: the method."),
        VariableDescriptor(Self.requestId, "Of a call or its answer: its identifier."),
        VariableDescriptor(
            Self.mqttTopic,
            "Of a report over MQTT, if the device's profile has topics of its own: the topic."
        ),
    ]
}

extension MessageType {
    /// A device asks what package it should have.
    public static let packageInfoRequest: Self = "PACKAGE_INFO_REQUEST"
    /// A device asks for the bytes of its package, whole or a chunk.
    public static let packageChunkRequest: Self = "PACKAGE_CHUNK_REQUEST"
    /// A device's effective package changed to another one.
    public static let packageAssigned: Self = "PACKAGE_ASSIGNED"
    /// A device has no effective package any more.
    public static let packageUnassigned: Self = "PACKAGE_UNASSIGNED"
}

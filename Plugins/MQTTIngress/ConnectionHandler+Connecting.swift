import NIOCore
import NIOSSL
import NodeKit
import OTA
import Synchronization

extension ConnectionHandler {
    /// Finds out who connects, in ThingsBoard's order: one that wants to be made a device, a certificate, then user name,
    /// password and client identifier.
    func authenticate(_ connect: ConnectPacket) async {
        let actions = await self.admission(connect)
        // The chain hears of the session before it gets what the device sends in it.
        self.startsTasksLater = true
        self.perform(actions)
        self.flush()
        self.resumeReading()
        self.startsTasksLater = false
        if case .device(let requests) = self.peer, self.session.isConnected { await requests.tell(.connectEvent) }
    }

    private func admission(_ connect: ConnectPacket) async -> [Session.Action] {
        guard self.isAddressAdmitted else {
            return self.session.refused(.connectionRateExceeded, explanation: "too many connections from one address")
        }
        if ProvisionRequests.isMeant(by: connect) { return self.acceptProvisioning() }
        do {
            let certificate = try self.peerCertificate
            guard let device = try await self.findDevice(connect, certificate) else {
                return self.refusal(of: connect, hasCertificate: certificate != nil)
            }
            let transport = try await self.services.authenticator.transport(of: device)
            if let fault = transport.fault(for: .mqtt) {
                return self.session.refused(.serverUnavailable, explanation: fault)
            }
            return await self.accept(device, connect, self.services.profileTopics.topics(transport))
        } catch {
            let explanation = "the credentials could not be checked: \(NodeError(wrapping: error))"
            return self.session.refused(.serverUnavailable, explanation: explanation, isTold: false)
        }
    }

    private var isAddressAdmitted: Bool {
        guard let context = self.context, let address = context.remoteAddress?.ipAddress else { return true }
        return self.services.addressLimiter.admit(address, at: context.eventLoop.now)
    }

    /// The certificate that the client showed, in DER form.
    private var peerCertificate: [UInt8]? {
        get throws {
            guard self.isTLS, let context = self.context else { return nil }
            let tls = try context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self)
            return try tls.peerCertificate?.toDERBytes()
        }
    }

    private func refusal(of connect: ConnectPacket, hasCertificate: Bool) -> [Session.Action] {
        if hasCertificate {
            self.session.refused(.notAuthorized, explanation: "no device has this certificate")
        } else if connect.userName != nil || connect.password != nil {
            self.session.refused(.badUserNameOrPassword, explanation: "no device has these credentials")
        } else if connect.clientId.isEmpty {
            self.session.refused(.notAuthorized, explanation: "there are no credentials")
        } else {
            self.session.refused(.clientIdentifierNotValid, explanation: "no device has this client identifier")
        }
    }

    private func findDevice(_ connect: ConnectPacket, _ certificate: [UInt8]?) async throws -> Originator? {
        let authenticator = self.services.authenticator
        var password: String?
        if let bytes = connect.password {
            password = try? bytes.getUTF8ValidatedString(at: bytes.readerIndex, length: bytes.readableBytes)
            // A password that is no text is not that of a device, whose credentials are text.
            guard password != nil || certificate != nil else { return nil }
        }
        func find() async throws -> Originator? {
            if let certificate { return try await authenticator.device(certificate: certificate) }
            return try await authenticator.device(
                clientId: connect.clientId,
                userName: connect.userName,
                password: password
            )
        }
        guard let device = try await find(), let handle = self.handle, !self.session.isClosed else { return nil }
        self.subscription = self.services.deviceSessions.beginSession(
            device.id,
            name: connect.clientId.isEmpty ? nil : connect.clientId,
            sessionsMax: self.services.limits.sessionsPerDeviceMax,
            replaced: { handle.tell { $0.end(.sessionTakenOver, "the device connected again") } },
            flushed: { await handle.flushed() }
        ) { notification in
            // A session that is kept hears all else as one, whether it has a connection or not.
            guard notification == .credentialsRevoked || !handle.isKept.load(ordering: .relaxed) else { return false }
            handle.tell { $0.notified(notification) }
            return handle.takes(notification)
        }
        // The credentials may have been revoked before there was a listener to tell.
        return try await find()?.id == device.id ? device : nil
    }

    private func accept(
        _ device: Originator,
        _ connect: ConnectPacket,
        _ profileTopics: ProfileTopics?
    ) async -> [Session.Action] {
        guard let handle = self.handle else { return [] }
        let assigned = "windlass-\(device.id.uuidString.lowercased())-\(handle.id)"
        let clientId = connect.clientId.isEmpty ? assigned : connect.clientId
        let key = KeptSessions.Key(device: device.id, clientId: clientId)
        let isToBeKept = self.session.expirySeconds > 0
        var state: SessionState?
        taking: while true {
            // From here to the acceptance nothing may wait, or a message could get lost.
            guard !self.session.isClosed else { return [] }
            let (taking, ended) = self.services.kept.take(
                key,
                isClean: connect.isClean,
                for: isToBeKept ? handle : nil
            )
            if let ended { self.services.publishWills(of: [ended], on: handle.eventLoop) }
            switch taking {
            case .busy: await self.services.kept.left(key)
            case .taken(let taken):
                state = taken
                break taking
            }
        }
        if isToBeKept {
            self.key = key
            handle.isKept.store(true, ordering: .relaxed)
        }
        self.peer = .device(
            DeviceRequests(
                device: device,
                services: self.services,
                acknowledgesBadPayloads: profileTopics?.acknowledgesBadPayloads ?? false
            )
        )
        let actions = self.session.authenticated(
            assignedClientId: assigned,
            profileTopics: profileTopics,
            resuming: state
        )
        self.noteInterests()
        self.watchSilence()
        return actions
    }

    private func acceptProvisioning() -> [Session.Action] {
        guard let handle = self.handle, !self.session.isClosed else { return [] }
        self.peer = .provisioning(ProvisionRequests(services: self.services))
        let actions = self.session.authenticated(
            assignedClientId: ProvisionRequests.name,
            isProvisioning: true
        )
        self.watch(until: handle.eventLoop.now + Limits.provisionTimeout)
        return actions
    }
}

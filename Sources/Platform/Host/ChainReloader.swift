import Chains
import FoundationEssentials
import Logging
import ServiceLifecycle
import UnixSignals

/// Reads the chain files again when the process gets SIGHUP and, if asked to watch, when one of them changes.
struct ChainReloader: Service {
    /// How often a watched folder is looked at.
    static let watchInterval = Duration.milliseconds(500)

    let runtime: ChainRuntime
    let folder: String
    let watch: Bool
    let logger: Logger
    /// Called when other chains have taken over.
    let onReload: @Sendable () async -> Void

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.reloadOnSignal() }
                if self.watch { group.addTask { await self.reloadOnChange() } }
            }
        }
    }

    private func reloadOnSignal() async {
        for await _ in await UnixSignalsSequence(trapping: .sighup) { await self.reload() }
    }

    private func reloadOnChange() async {
        var last = self.fingerprint()
        while (try? await Task.sleep(for: Self.watchInterval)) != nil {
            let now = self.fingerprint()
            guard now != last else { continue }
            last = now
            await self.reload()
        }
    }

    /// What tells one state of the folder's chain files from another: names, times of change and sizes.
    private func fingerprint() -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: self.folder)) ?? []
        return names.filter { $0.hasSuffix(".xml") }.sorted().map { name in
            let attributes = try? FileManager.default.attributesOfItem(atPath: "\(self.folder)/\(name)")
            let changed = (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
            return "\(name) \(changed) \(attributes?[.size] as? UInt64 ?? 0)"
        }
    }

    private func reload() async {
        do {
            try await self.runtime.reload(try ChainSource.read(folder: self.folder))
            self.logger.notice("chains reloaded", metadata: ["chains.folder": "\(self.folder)"])
            await self.onReload()
        } catch let faults as ChainFaults {
            for fault in faults.faults {
                self.logger.log(level: fault.severity == .error ? .error : .warning, "\(fault)")
            }
            self.logger.error(
                "chains not reloaded; the running ones stay",
                metadata: ["chains.folder": "\(self.folder)"]
            )
        } catch {
            self.logger.error(
                "chains not reloaded; the running ones stay",
                metadata: ["chains.folder": "\(self.folder)", "error": "\(error)"]
            )
        }
    }
}

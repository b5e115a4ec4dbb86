import ArgumentParser
@main struct Windlass: AsyncParsableCommand { func run() async throws {} }

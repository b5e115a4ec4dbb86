/// Values by key, each at a place where it stays until it is removed: who knows the place need not look for it again.
///
/// A hash table whose values stand in one array. Unlike in a `Dictionary`, to remove a value moves no other and computes no
/// hash, which counts where an old one goes for each that comes.
struct PlaceTable<Key: Hashable, Value> {
    /// Where a value stands: never another value's, also if that stands there later.
    struct Place: Hashable, Sendable {
        fileprivate var index: Int32
        fileprivate var serial: UInt64
    }

    private struct Item {
        var key: Key
        /// `nil` if none stands there.
        var value: Value?
        var hash: Int
        /// Different for each value, and 0 if none stands there: that can be asked without a look at the value.
        var serial: UInt64
        /// The next item of the same chain, or the next that is free; ``PlaceTable/end`` at the end.
        var next: Int32
    }

    private static var end: Int32 { -1 }
    private static var chainsMin: Int { 16 }

    private var items: [Item] = []
    /// The first item of each chain; as many as a power of two.
    private var chains = [Int32](repeating: Self.end, count: Self.chainsMin)
    private var firstFree = Self.end
    private var lastSerial: UInt64 = 0
    /// How many values there are.
    private(set) var count = 0

    /// Looks for the value of a key.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - hash: Its hash value, so that who looks for it and then adds it computes that once.
    /// - Returns: Where the value stands; `nil` if there is none.
    func place(of key: Key, hash: Int) -> Place? {
        var index = self.chains[hash & (self.chains.count - 1)]
        while index != Self.end {
            if self.items[Int(index)].hash == hash, self.items[Int(index)].key == key {
                return Place(index: index, serial: self.items[Int(index)].serial)
            }
            index = self.items[Int(index)].next
        }
        return nil
    }

    /// Adds the value of a key that has none.
    ///
    /// - Parameters:
    ///   - value: The value.
    ///   - key: Its key.
    ///   - hash: The hash value of the key.
    /// - Returns: Where the value stands.
    mutating func insert(_ value: Value, for key: Key, hash: Int) -> Place {
        if self.count >= self.chains.count { self.grow() }
        self.count += 1
        self.lastSerial += 1
        let chain = hash & (self.chains.count - 1)
        let item = Item(key: key, value: value, hash: hash, serial: self.lastSerial, next: self.chains[chain])
        let index: Int32
        if self.firstFree == Self.end {
            index = Int32(self.items.count)
            self.items.append(item)
        } else {
            index = self.firstFree
            self.firstFree = self.items[Int(index)].next
            self.items[Int(index)] = item
        }
        self.chains[chain] = index
        return Place(index: index, serial: self.lastSerial)
    }

    /// Removes the value at a place, if it stands there.
    mutating func remove(at place: Place) {
        guard self.isTaken(place) else { return }
        let index = Int(place.index)
        let chain = self.items[index].hash & (self.chains.count - 1)
        if self.chains[chain] == place.index {
            self.chains[chain] = self.items[index].next
        } else {
            var before = Int(self.chains[chain])
            while self.items[before].next != place.index { before = Int(self.items[before].next) }
            self.items[before].next = self.items[index].next
        }
        self.items[index].value = nil
        self.items[index].serial = 0
        self.items[index].next = self.firstFree
        self.firstFree = place.index
        self.count -= 1
    }

    /// The value at a place; `nil` if it is there no longer.
    ///
    /// It can be changed here, but is added and removed only by ``insert(_:for:)`` and ``remove(at:)``.
    subscript(place: Place) -> Value? {
        get { self.isTaken(place) ? self.items[Int(place.index)].value : nil }
        _modify {
            if self.isTaken(place) {
                yield &self.items[Int(place.index)].value
            } else {
                var nothing: Value?
                yield &nothing
            }
        }
    }

    private func isTaken(_ place: Place) -> Bool { self.items[Int(place.index)].serial == place.serial }

    private mutating func grow() {
        self.chains = [Int32](repeating: Self.end, count: self.chains.count * 2)
        for index in self.items.indices where self.items[index].serial != 0 {
            let chain = self.items[index].hash & (self.chains.count - 1)
            self.items[index].next = self.chains[chain]
            self.chains[chain] = Int32(index)
        }
    }
}

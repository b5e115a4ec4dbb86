import NIOCore
import NodeKit

/// The `Date` field (RFC 9110 §6.6.1), made anew once a second at most.
struct DateField {
    private var second: Int64?
    private var field = ByteBuffer()

    /// The whole field with its line end, for the second that a time falls into.
    mutating func bytes(at timestamp: Timestamp) -> ByteBuffer {
        let second = max(0, timestamp.rawValue / 1000)
        if second != self.second {
            self.second = second
            self.field = ByteBuffer(string: Self.field(second))
        }
        return self.field
    }

    private static func field(_ second: Int64) -> String {
        let days = second / 86_400
        let time = second % 86_400
        let (year, month, day) = Self.date(days)
        let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][Int(days % 7)]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let clock = [time / 3600, time / 60 % 60, time % 60].map(Self.two).joined(separator: ":")
        return "Date: \(weekday), \(Self.two(day)) \(months[Int(month - 1)]) \(year) \(clock) GMT\r\n"
    }

    private static func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : String(number) }

    /// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
    ///
    /// Years count from March, so that the leap day is the last, in eras of 400 years.
    private static func date(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    }
}

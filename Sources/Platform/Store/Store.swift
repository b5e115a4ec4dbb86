import NIOCore
import GRDB
